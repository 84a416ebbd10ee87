"""Rubric files of other tools become [[criteria]] that a configuration accepts."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from trustescalate.config import load_config, parse_config
from trustescalate.data.dataset import load_dataset
from trustescalate.data.import_files import import_files
from trustescalate.data.rubrics import MOST_CRITERIA, import_rubric
from trustescalate.errors import DataError, UsageError
from trustescalate.records import Annotation
from trustescalate.records.jsonl import read_rows

SCORES = {f"score{n}_description": f"It is worth {n}." for n in range(1, 6)}
PROMETHEUS = {"criteria": "Does the answer show empathy?", **SCORES}
DESCRIBED = "\n".join(f"Score {n}: It is worth {n}." for n in range(1, 6))
WEIGHTED = [
    {"weight": 10.0, "requirement": "States the margin as 17.2 %"},
    {"name": "tone", "weight": 2, "requirement": "Is it polite?"},
    {"weight": -15.0, "requirement": "Uses total deliveries"},
]
HEALTH = [
    {"criterion": "Names a doctor", "points": 5, "tags": ["axis:x"]},
    {"criterion": "Scares", "points": -3},
]
ROW = {f"orig_{key}": text for key, text in PROMETHEUS.items()}
SECTION = {"name": "s", "criteria": WEIGHTED}
OPTIONS = [{"label": str(n), "value": n / 4} for n in range(1, 5)]


def choice(count: int, prefix: str = "o") -> dict[str, Any]:
    """A criterion with so many options."""
    return {"requirement": prefix, "options": [f"{prefix}{number}" for number in range(count)]}


def read(tmp_path: Path, value: Any, name: str = "rubric.json") -> tuple[str, list[dict[str, Any]]]:
    """The kind of task and the tables, as they are read back from the fragment."""
    (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    to = tmp_path / "criteria.toml"
    rubric = import_rubric([tmp_path / name], to)
    tables = tomllib.loads(to.read_text(encoding="utf-8"))
    judge = {"name": "m", "backend": "openai", "model": "m"}
    parse_config({"version": 1, "task": {"kind": rubric.kind}, "judges": [judge], **tables}, to)
    return rubric.kind, tables["criteria"]


@pytest.mark.parametrize(
    "value",
    [
        PROMETHEUS,
        [PROMETHEUS],
        {"empathy": PROMETHEUS},
        {"rubric": PROMETHEUS},
        [{**ROW, "orig_response": "x", "id": n} for n in (1, 2)],
    ],
    ids=["alone", "list", "named", "nested", "Feedback-Collection"],
)
def test_prometheus_becomes_a_scale_with_its_descriptions(value: Any, tmp_path: Path) -> None:
    kind, (criterion,) = read(tmp_path, value)
    assert kind == "rating"
    assert criterion == {
        "name": "empathy" if "empathy" in value else "Does the answer show empathy?",
        "question": f"Does the answer show empathy?\n\n{DESCRIBED}",
        "scale": [1, 5],
        "weight": 1.0,
    }


@pytest.mark.parametrize(
    "value",
    [
        WEIGHTED,
        {"rubric": WEIGHTED},
        {"name": "set", "prompt": "p", "rubric": {"sections": [SECTION]}, "items": []},
        [{**SECTION, "description": "A section."}],
        "\n".join(map(json.dumps, WEIGHTED)),
    ],
    ids=["list", "rubric", "sections", "list of sections", "lines"],
)
def test_weighted_lists_become_yes_or_no(value: Any, tmp_path: Path) -> None:
    kind, criteria = read(tmp_path, value)
    assert kind == "binary"
    assert criteria == [
        {
            "name": "States the margin as 17.2 %",
            "question": "Does the response meet this requirement? States the margin as 17.2 %",
            "labels": ["yes", "no"],
            "weight": 10.0,
        },
        {"name": "tone", "question": "Is it polite?", "labels": ["yes", "no"], "weight": 2.0},
        {
            "name": "Uses total deliveries",
            "question": "Is the response free of this? Uses total deliveries",
            "labels": ["yes", "no"],
            "weight": 15.0,
        },
    ]


def test_health_bench_points_are_weights(tmp_path: Path) -> None:
    _, criteria = read(tmp_path, [{"prompt": [], "prompt_id": str(n), "rubrics": HEALTH} for n in (1, 2)])
    assert [(each["name"], each["weight"]) for each in criteria] == [("Names a doctor", 5.0), ("Scares", 3.0)]


def test_options_are_a_scale_or_labels(tmp_path: Path) -> None:
    graded = [*OPTIONS, {"label": "NA", "value": 0, "na": True}]
    assert read(tmp_path, [{"name": "a", "requirement": "x", "options": graded}])[1][0]["scale"] == [1, 4]
    (tmp_path / "criteria.toml").unlink()
    named = {"name": "b", "requirement": "y", "options": [{"label": "good"}, {"label": "bad"}]}
    kind, criteria = read(tmp_path, [{"name": "a", "requirement": "x", "options": graded}, named])
    labels = [each["labels"] for each in criteria]
    assert (kind, labels) == ("choice", [["1", "2", "3", "4"], ["good", "bad"]])


def test_yes_or_no_beside_a_scale_is_a_scale(tmp_path: Path) -> None:
    kind, criteria = read(tmp_path, [PROMETHEUS, *WEIGHTED[:1]])
    assert (kind, [each["scale"] for each in criteria]) == ("rating", [[1, 5], [0, 1]])
    assert criteria[1]["question"].endswith("Score 0: no\nScore 1: yes")


def test_levels_by_number_are_described(tmp_path: Path) -> None:
    criteria = [{"id": "C", "description": "d", "levels": {"0": "no"}}]
    _, (criterion,) = read(tmp_path, {"scale": {"min": 0, "max": 3}, "criteria": criteria})
    assert (criterion["name"], criterion["scale"]) == ("C", [0, 3])
    assert criterion["question"] == "d\n\nScore 0: no"


def test_untrusted_texts_stay_in_their_strings(tmp_path: Path) -> None:
    nasty = '"]\n[[judges]]\nname = "x"\\ \x7f\u202e\u0085 """ \'\'\''
    _, (criterion,) = read(tmp_path, [{"name": nasty, "requirement": nasty, "weight": 1}])
    assert criterion["question"].endswith(nasty.strip())
    assert criterion["name"].isprintable()
    written = (tmp_path / "criteria.toml").read_text(encoding="utf-8")
    assert not any(char in written for char in "\x7f\u202e\u0085")
    assert sum(line.startswith("[[") for line in written.splitlines()) == 1


def test_rubrics_of_rows_are_all_asked_and_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [ROW, ROW, {**ROW, "orig_criteria": "Is it brief?"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    rubric = import_rubric([path])
    assert [each.name for each in rubric.criteria] == ["Does the answer show empathy?", "Is it brief?"]
    assert "holds 2 rubrics" in rubric.assumed[0]


def test_names_differ_and_are_short(tmp_path: Path) -> None:
    _, criteria = read(tmp_path, [{"requirement": "Word " * 40 + str(n), "weight": 1} for n in range(3)])
    names = [each["name"] for each in criteria]
    assert len({*names}) == 3
    assert max(map(len, names)) <= 64


COLUMNS = """
[task]
kind = "rating"
[import]
annotator = "rater"
criteria = { clear = "clarity" }
[[criteria]]
name = "clear"
question = "Is it clear?"
scale = [1, 5]
[[criteria]]
name = "kind"
question = "Is it kind?"
scale = [1, 3]
alpha = 0.2
"""


def scored(tmp_path: Path, columns: str, *rows: dict[str, Any]) -> Path:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "columns.toml").write_text(columns)
    import_files([tmp_path / "rows.jsonl"], tmp_path / "set", columns=tmp_path / "columns.toml")
    return tmp_path / "set"


ROW_OF = {"id": "a", "prompt": "Q", "response": "x", "clarity": 4, "kind": 3, "rater": "ann"}


def test_rows_with_a_score_on_each_criterion_become_annotations_of_it(tmp_path: Path) -> None:
    folder = scored(tmp_path, COLUMNS, ROW_OF, {**ROW_OF, "rater": "bob", "clarity": "", "kind": 2}, ROW_OF)
    notes = [row.record for row in read_rows(folder / "annotations.jsonl", Annotation).rows]
    assert [(note.annotator, note.criterion, note.label) for note in notes] == [
        ("ann", "clear", "4"),
        ("ann", "kind", "3"),
        ("bob", "kind", "2"),
    ]
    config = load_config(folder / "trustescalate.toml")
    assert [(each.name, each.scale, each.alpha) for each in config.criteria] == [
        ("clear", (1, 5), None),
        ("kind", (1, 3), 0.2),
    ]
    assert len(load_dataset(config).items) == 2


def test_choices_need_no_labels_in_task(tmp_path: Path) -> None:
    columns = COLUMNS.replace('"rating"', '"choice"').replace("scale = [1, 5]", 'labels = ["3", "4"]')
    folder = scored(tmp_path, columns.replace("scale = [1, 3]", 'labels = ["3", "x"]'), ROW_OF)
    assert load_config(folder / "trustescalate.toml").task.task().labels == ("3", "4", "x")


def test_spellings_are_those_of_the_criterion(tmp_path: Path) -> None:
    columns = COLUMNS.replace("[[criteria]]", 'labels = { good = "3", great = "5" }\n[[criteria]]', 1)
    folder = scored(tmp_path, columns, {**ROW_OF, "clarity": "great", "kind": "good"})
    notes = [row.record for row in read_rows(folder / "annotations.jsonl", Annotation).rows]
    assert [(note.criterion, note.label) for note in notes] == [("clear", "5"), ("kind", "3")]


@pytest.mark.parametrize(
    ("changed", "row", "sentence"),
    [
        (('"clarity"', '"clearness"'), {}, "no column 'clearness'"),
        (("{ clear", "{ bright"), {}, "criteria names 'bright'"),
        (('annotator = "rater"', 'label = "kind"'), {}, "hold one label of an item"),
        (('annotator = "rater"', 'judges = { gpt = "kind" }'), {}, "recorded verdicts are about items"),
        (("", ""), {"kind": 5}, "the label '5' is not known"),
    ],
)
def test_scores_that_fit_no_criterion_are_refused(
    changed: tuple[str, str], row: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as refused:
        scored(tmp_path, COLUMNS.replace(*changed), {**ROW_OF, **row})
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([{"requirement": "x", "weight": 0}], "weight 0: it counts nothing"),
        ([{"requirement": "x", "weight": "much"}], "weight 'much' is no number"),
        ([{"requirement": "x", "weight": True}], "is no number"),
        ([{"requirement": "x", "weight": -1, "scale": [1, 5]}], "only a yes/no criterion may count against"),
        ([{"requirement": "x", "scale": [5, 5]}], "a scale goes from"),
        ([{"requirement": "x", "scale": [1, 2.5]}], "a scale goes from"),
        ([{"requirement": "x", "options": ["a", "a"]}], "different labels"),
        ([{"requirement": " ", "weight": 1}], "has no text"),
        ([{"requirement": "ok", "weight": 1}, {"requirement": "x", "weight": 0}], "json:2: weight 0"),
        ([{"requirement": str(n), "weight": 1} for n in range(MOST_CRITERIA + 1)], "asks at most 50"),
        ('[{"requirement": "x", "weight": NaN}]', "weight 'nan' is no number"),
        ('[{"requirement": "x", "weight": 1e400}]', "weight 'inf' is no number"),
        (f'[{{"requirement": "x", "weight": 1{"0" * 400}}}]', "is no number"),
        ('[{"requirement": "x", "weight": 1e308}]', "criteria.1.weight: must be less than or equal to"),
        ([choice(60)], "criteria.1.labels: must be 2 to 26 different labels"),
        ([choice(20, "a"), choice(20, "b")], "more than 26 different labels in all"),
        ([{"rubrics": HEALTH}, {"rubrics": HEALTH[:1]}], "2 rows have a rubric of their own"),
        ([{"prompt": "p", "response": "r"}], "holds no rubric"),
        (["a", "b"], "holds no rubric"),
        ("{", "rubric.json"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_place(value: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read(tmp_path, value)
    assert sentence in str(refused.value)
    assert not (tmp_path / "criteria.toml").exists()


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    read(tmp_path, PROMETHEUS)
    with pytest.raises(UsageError, match="exists already"):
        read(tmp_path, PROMETHEUS)
