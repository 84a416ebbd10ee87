"""The folder of a dataset: types of its columns, and a card in which texts of others are inert."""

import io
import json
import re
from dataclasses import replace

import pytest
from pyarrow import parquet, types

from tests.support.factory import HOSTILE, TASK, run
from trustescalate.records import Run, Turn
from trustescalate.report.export import tables
from trustescalate.report.export.base import Export, export_rows
from trustescalate.report.export.hugging_face import DATA, HF
from trustescalate.report.export.registry import TARGETS


def written(given: Run) -> tuple[parquet.ParquetFile, dict[str, bytes], Export]:
    export = Export(given, export_rows(given))
    table = b"".join(HF.write(export))
    return parquet.ParquetFile(io.BytesIO(table)), export.beside, export


def test_columns_have_types_and_the_card_names_each() -> None:
    file, beside, export = written(run(8))
    table = file.read()
    assert TARGETS["hf"].inside == DATA
    assert sorted(beside) == ["README.md", "columns.toml"]
    assert types.is_float64(table.schema.field("score").type)
    assert table.column("id").to_pylist() == [row.item.id for row in export.rows]
    assert table.column("verdict").to_pylist() == [row.released for row in export.rows]
    card = beside["README.md"].decode()
    header = card.split("---\n")[1]
    assert f"    path: {DATA}" in header
    assert card.count("\n| <code>") == len(table.schema.names)


def test_one_conversation_makes_its_column_one_of_turns() -> None:
    given = run(3)
    first, *rest = given.items
    talk = (Turn("user", "Hi"), Turn("assistant", "Yes?"), Turn("user", "Why?"))
    items = (replace(first, prompt=talk, meta={"n": 2**70, "deep": {"a": [1]}}), *rest)
    table = written(replace(given, items=items))[0].read()
    prompts = table.column("prompt").to_pylist()
    assert [turn["content"] for turn in prompts[0]] == ["Hi", "Yes?", "Why?"]
    assert [(turn["role"], turn["content"]) for turn in prompts[1]] == [("user", rest[0].prompt)]
    assert types.is_string(table.schema.field("response_a").type)
    assert table.column("meta:n").to_pylist()[0] == str(2**70)
    assert json.loads(table.column("meta:deep").to_pylist()[0]) == {"a": [1]}


def test_rows_are_written_group_by_group_with_the_types_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    given = run(5)
    metas = ({}, {"n": 1, "x": True}, {"n": 2}, {"n": 3, "x": 0.5}, {"big": 2**64 - 1})
    items = tuple(replace(item, meta=meta) for item, meta in zip(given.items, metas, strict=True))
    given = replace(given, items=items)
    whole = written(given)[0].read()
    monkeypatch.setattr(tables, "ROWS", 2)
    parts = written(given)[0]
    assert parts.num_row_groups == 3
    assert parts.read().equals(whole)
    assert types.is_int64(whole.schema.field("meta:n").type)
    assert whole.column("meta:n").to_pylist() == [None, 1, 2, 3, None]
    assert whole.column("meta:x").to_pylist() == [None, "true", None, "0.5", None]
    assert whole.column("meta:big").to_pylist() == [None, None, None, None, str(2**64 - 1)]


def test_texts_of_others_are_inert_in_the_card() -> None:
    given, hostile = run(4), HOSTILE.encode("utf-8", "replace").decode()
    certificate = replace(given.header.certificate, task=replace(TASK, question=hostile))
    items = tuple(replace(item, meta={hostile: 1}) for item in given.items)
    header = replace(given.header, certificate=certificate, id=hostile)
    card = written(replace(given, header=header, items=items))[1]["README.md"].decode()
    _, front, body = card.split("---\n", 2)
    assert front.splitlines()[0] == f"pretty_name: {json.dumps(hostile.strip()[:200])}"
    assert front.splitlines()[1] == "tags:"
    outside = re.sub(r"<!-- -->|</?code>|&#\d+;|^#+ |^> |\*\*", "", body, flags=re.MULTILINE)
    assert not re.search(r"<|\]\(|https?://|@|`", outside)
