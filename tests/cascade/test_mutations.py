"""Every field of a run folder, changed in turn: the gate never passes where the change matters."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import calibrate, run, write_project
from trustescalate.cascade.run_folder import RunFolder, run_path
from trustescalate.errors import TrustEscalateError
from trustescalate.project import Project
from trustescalate.records.jsonl import encode, write_atomically

pytestmark = pytest.mark.slow

FREE: dict[str, set[str]] = {"run.json": set(), "decisions.jsonl": set(), "judgments.jsonl": set()}
"""Fields that may change without a word: none."""
FORGED: dict[str, set[str]] = {
    "decisions.jsonl": set(),
    "judgments.jsonl": {"votes.raw", "votes.cost", "votes.usage", "votes.exemplar_set", "votes.order"},
}
"""Fields that may change if the digest in run.json is forged too: no decision follows from them."""
Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_project(tmp_path_factory.mktemp("mutated"), labelled=60, unlabelled=12, min_coverage=0.2)
    calibrate(config)
    run(config)
    return config


def gate(config: Path) -> int:
    try:
        return Project.open(config).gate()[0].exit_code
    except TrustEscalateError as error:
        return error.exit_code


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all values, and those of the lists and tables that hold them."""
    if place:
        yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from leaves(part, (*place, key))


def changed(value: Any) -> list[Any]:
    """Other values that a field may be changed to."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, -value - 0.5, 0.97, None]
    if isinstance(value, str):
        return [f"{value}x", ""]
    if isinstance(value, list):
        return [[], value + value[:1], value[1:]]
    return [{}, {**value, "more": 1}] if isinstance(value, dict) else ["A", 0.5]


def put(row: Any, place: Place, value: Any) -> Any:
    """A row with another value at a place."""
    if not place:
        return value
    first, *rest = place
    copied = list(row) if isinstance(row, list) else dict(row)
    copied[first] = put(row[first], tuple(rest), value)  # type: ignore[index]
    return copied


def without(row: dict[str, Any], place: Place) -> Any:
    """A row without the field at a place."""
    first, *rest = place
    if not rest:
        return [part for at, part in enumerate(row) if at != first] if isinstance(row, list) else {
            key: part for key, part in row.items() if key != first
        }  # fmt: skip
    return put(row, (first,), without(row[first], tuple(rest)))  # type: ignore[index]


def passing(config: Path, path: Path, renew: Callable[[], None] = lambda: None) -> set[str]:
    """The fields of a file whose change the gate does not notice."""
    whole = path.read_bytes()
    lines = [json.loads(line) for line in whole.splitlines()]
    free = set()
    for number in range(min(len(lines), 3)):
        for place in leaves(lines[number]):
            value = lines[number]
            for key in place:
                value = value[key]
            mutants = [put(lines[number], place, other) for other in changed(value) if other != value]
            mutants.append(without(lines[number], place))
            for mutant in mutants[:: max(1, len(mutants) - 1)]:  # the first change, and without it
                if mutant == lines[number]:
                    continue
                rows = [*lines[:number], mutant, *lines[number + 1 :]]
                path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
                renew()
                if gate(config) == 0:
                    free.add(".".join(key for key in place if isinstance(key, str)))
    path.write_bytes(whole)
    renew()
    assert gate(config) == 0
    return free


@pytest.mark.parametrize("name", FREE)
def test_no_field_can_be_changed_without_the_gate_seeing_it(config: Path, name: str) -> None:
    assert gate(config) == 0
    folder = run_path(config.parent, Project.open(config).run_ids()[-1])
    assert passing(config, folder / name) == FREE[name]


@pytest.mark.parametrize("name", FORGED)
def test_with_a_forged_digest_only_what_decides_nothing_can_be_changed(config: Path, name: str) -> None:
    folder = run_path(config.parent, Project.open(config).run_ids()[-1])

    def forge() -> None:
        opened = RunFolder.open(folder)
        header = replace(opened.header, rows=opened._rows_digest())
        write_atomically(folder / "run.json", encode(header) + b"\n")

    free = passing(config, folder / name, forge)
    assert {field for field in free if not any(field.startswith(known) for known in FORGED[name])} == set()


@pytest.mark.parametrize("name", ["decisions.jsonl", "judgments.jsonl", "items.jsonl"])
def test_no_row_can_be_removed_doubled_or_taken_from_elsewhere(config: Path, name: str) -> None:
    path = run_path(config.parent, Project.open(config).run_ids()[-1]) / name
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for rows in (lines[1:], lines[:-1], [*lines, lines[0]], [lines[1], lines[0], *lines[2:]], []):
        path.write_bytes(b"".join(rows))
        assert gate(config) in (2, 3)
    path.unlink()
    assert gate(config) in (2, 3)
    path.write_bytes(whole)
    assert gate(config) == 0
