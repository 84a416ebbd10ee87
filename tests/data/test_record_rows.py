"""Rows of other libraries as records, and the names of datasets."""

from pathlib import Path
from typing import Any

import pytest

from trustescalate.data.importers.hugging_face import Named, is_dataset, parse_name
from trustescalate.data.record_rows import records_of
from trustescalate.errors import DataError, UsageError
from trustescalate.project import Project
from trustescalate.records import Annotation, Item


class Labels:
    """A feature of class labels, as `datasets` has it."""

    def int2str(self, value: int) -> str:
        return ("pass", "fail")[value]


class Rows(list[Any]):
    """Rows with features."""

    def __init__(self, rows: list[Any], **features: Any) -> None:
        super().__init__(rows)
        self.features = features


def test_empty_cells_are_not_given_and_class_labels_have_names() -> None:
    rows = Rows(
        [{"item_id": "a", "annotator": "ann", "label": 1, "seconds": None, "reason": None}], label=Labels()
    )
    assert list(records_of(rows, Annotation, "annotations")) == [Annotation("a", "ann", "fail")]
    talk = [{"role": "user", "content": "Hi", "name": None, "tool_calls": None}]
    (item,) = records_of(
        [{"id": "a", "prompt": talk, "responses": ["x"], "meta": {"k": None}}], Item, "items"
    )
    assert (item.prompt[0].content, item.meta) == ("Hi", {})  # type: ignore[union-attr]


def test_a_row_that_does_not_fit_is_named_with_its_column() -> None:
    rows: list[Any] = [
        {"id": "a", "prompt": "?", "responses": ["x"]},
        {"id": "b", "prompt": "?"},
        {"id": "c", "promt": "?", "responses": ["x"]},
        Item("d", "?", ("x",)),
        "no row",
    ]
    with pytest.raises(DataError) as stop:
        list(records_of(rows, Item, "items"))
    text = str(stop.value)
    assert "items[1]: 'responses' is missing" in text
    assert "items[2]: 'prompt' is missing; unknown key 'promt': did you mean 'prompt'?" in text
    assert "items[4]: is str, neither Item nor a row of columns" in text
    assert "items[0]" not in text
    assert "id, prompt, responses" in stop.value.hint


def test_splits_are_refused_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="items holds several splits: 'train', 'test'"):
        Project.from_records({"train": [], "test": []}, [], {}, folder=tmp_path / "p")  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf:squad", ("squad", None, None, None, False)),
        ("hf:a/b", ("a/b", None, None, None, False)),
        ("hf:a/b/c@v1.0:train[:10]", ("a/b", "c", "v1.0", "train[:10]", False)),
        ("hf:a/b@refs/pr/1", ("a/b", None, "refs/pr/1", None, False)),
        ("hf:.", (".", None, None, None, True)),
        ("hf:../x:test", ("../x", None, None, "test", True)),
        ("hf:/abs/path", ("/abs/path", None, None, None, True)),
    ],
)
def test_names(text: str, parts: tuple[Any, ...]) -> None:
    assert is_dataset(Path(text))
    assert parse_name(str(Path(text))) == Named(*parts)


@pytest.mark.parametrize("text", ["hf:", "hf:a b", "hf:a/b/c/d", "hf:a:", "hf:a@"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no dataset"):
        parse_name(text)
