"""Records that are nearly right, of every format: refused by name or taken whole, and never a traceback.

Of three records the last one is damaged. The other two must come in as if nothing had happened.
"""

import copy
import json
import math
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.formats import Parsed, parse
from tests.support.import_examples import EXAMPLES, FIRST, Example, Record
from trustescalate.config.tables import TaskTable
from trustescalate.data.importers.registry import COLUMNS, FORMATS
from trustescalate.errors import TrustEscalateError
from trustescalate.records import Task

pytestmark = pytest.mark.slow
RECORDS = 3


# ── damage ───────────────────────────────────────────────────────────────────────────────────────


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 2, 1.5, -0.0, math.nan, math.inf, 10**400, -(10**4000), 2**63, 1e308),
        *("", " ", "A", "B", "tie", "C", "null", "nan", "1", "²", "\ud800", "\x00", "é", "x" * 300),
        *("../../etc/passwd", "<script>", "{{x}}", '["\\ud800"]', '["a", null]', '"\\ud800"', "[" * 400),
        *([], {}, [None], [[]], [{}], {"": None}, {"role": None}, [1e400], _deep(100), _deep(300)),
    ]
)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from _paths(each, (*path, key))


@st.composite
def _damaged(draw: st.DrawFn, whole: Any) -> Any:
    """A copy with one to three of its fields lost, wrapped, doubled, or holding something odd."""
    value = {"all": copy.deepcopy(whole)}
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([*_paths(value)] or [("all",)]))
        holder: Any = value
        for step in way:
            holder = holder[step]
        match draw(st.sampled_from(["odd", "odd", "lost", "wrapped", "doubled"])):
            case "lost" if way:
                del holder[last]
            case "wrapped":
                holder[last] = [holder[last]]
            case "doubled" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[last]))
            case _:
                holder[last] = copy.deepcopy(draw(ODD))
    return value["all"]


# ── what holds ───────────────────────────────────────────────────────────────────────────────────


def _write(folder: Path, example: Example, rows: list[Any], beside: list[Any]) -> list[Path]:
    main = folder / f"main{example.suffix}"
    whole = [example.around(rows)] if example.around else rows
    main.write_text("\n".join(map(json.dumps, whole)))
    if not example.beside:
        return [main]
    other = folder / "beside.jsonl"
    other.write_text("\n".join(map(json.dumps, beside)))
    return [main, other]


def _import(folder: Path, example: Example, rows: list[Any], beside: list[Any]) -> Parsed | None:
    """What is taken; None where the files are refused whole, with words."""
    try:
        return parse(folder / "set", *_write(folder, example, rows, beside))
    except TrustEscalateError as error:
        assert error.exit_code == 2  # noqa: PT017
        assert not (folder / "set").exists()
        return None


def _task(folder: Path) -> Task:
    table = tomllib.loads((folder / "set" / "trustescalate.toml").read_text(encoding="utf-8"))["task"]
    return TaskTable.model_validate_json(json.dumps(table)).task()


def _says_only_what_the_task_knows(found: Parsed, task: Task) -> bool:
    votes = [vote for row in found.judgments.values() for vote in row.votes]
    return (
        set(found.annotations.values()) <= set(task.annotation_labels)
        and all(set(vote.probs) <= set(task.labels) for vote in votes)
        and all(bool(vote.probs) != bool(vote.failure) for vote in votes)
        and all(len(item.responses) == task.responses for item in found.items.values())
    )


def _whole(example: Example, number: int = RECORDS) -> tuple[list[Record], list[Record]]:
    beside = example.beside or (lambda _: {})
    places = range(FIRST, FIRST + RECORDS)
    return [example.record(i) for i in places[:number]], [beside(i) for i in places]


DECIDED_AS_A_WHOLE = (COLUMNS, "argilla", "label_studio", "mlflow")
"""Formats whose labels have a meaning that all records decide: one odd code may refuse the file."""


def test_every_format_has_an_example() -> None:
    assert {example.format for example in EXAMPLES.values()} == {*FORMATS, COLUMNS}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_whole_file_is_of_its_format_and_comes_in_whole(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    found = _import(tmp_path, example, *_whole(example))
    assert found is not None
    assert (found.result.format, found.result.items, found.result.refused) == (example.format, RECORDS, 0)
    assert found.annotations or found.judgments or example.format == "openai_batch"
    assert not any(vote.failure for row in found.judgments.values() for vote in row.votes)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_damaged_record_is_refused_or_taken_and_costs_no_other(name: str) -> None:
    example = EXAMPLES[name]
    rows, beside = _whole(example)
    with tempfile.TemporaryDirectory() as folder:
        good = _import(Path(folder), example, *_whole(example, RECORDS - 1))
        assert good is not None

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(_damaged(rows[-1]))
    def holds(last: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = _import(Path(folder), example, [*rows[:-1], last], beside)
            if found is None:  # one JSON document, or what the labels mean is not known any more
                assert example.around or example.format in DECIDED_AS_A_WHOLE
                return
            result = found.result
            assert result.items + result.repeated + result.refused >= RECORDS
            assert good.items.items() <= found.items.items()
            assert _says_only_what_the_task_knows(found, _task(Path(folder)))
            if not isinstance(last, dict) or last.get("scores") == rows[-1].get(
                "scores"
            ):  # else it may have turned to finer grades
                assert good.annotations.items() <= found.annotations.items()

    holds()


@pytest.mark.parametrize("name", [name for name in EXAMPLES if EXAMPLES[name].around])
def test_a_damaged_document_never_ends_in_a_traceback(name: str) -> None:
    example = EXAMPLES[name]
    assert example.around
    bare = example._replace(around=None)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(_damaged(example.around(_whole(example)[0])))
    def holds(document: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = _import(Path(folder), bare, [document], [])
            assert found is None or _says_only_what_the_task_knows(found, _task(Path(folder)))

    holds()


@pytest.mark.parametrize("name", EXAMPLES)
def test_where_the_first_record_is_damaged_the_file_is_refused_or_read(name: str) -> None:
    example = EXAMPLES[name]
    rows, beside = _whole(example)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(_damaged(rows[0]))
    def holds(first: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = _import(Path(folder), example, [first, *rows[1:]], beside)
            assert found is None or _says_only_what_the_task_knows(found, _task(Path(folder)))

    holds()


@pytest.mark.parametrize("name", [name for name in EXAMPLES if EXAMPLES[name].beside])
def test_a_damaged_record_beside_is_counted(name: str) -> None:
    example = EXAMPLES[name]
    rows, beside = _whole(example)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(_damaged(beside[-1]))
    def holds(last: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = _import(Path(folder), example, rows, [*beside[:-1], last])
            assert found is not None
            assert found.result.items + found.result.refused >= RECORDS
            assert _says_only_what_the_task_knows(found, _task(Path(folder)))

    holds()
