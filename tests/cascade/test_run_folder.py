"""Run folders: damage, kills and two writers."""

import copy
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trustescalate.cascade.attempt_log import ATTEMPTS, recorded_attempt
from trustescalate.cascade.run_folder import (
    SCHEMA,
    RunFolder,
    find_attempted,
    find_run,
    run_ids,
)
from trustescalate.cascade.run_writer import RunWriter
from trustescalate.errors import DataError, NotMeasurable, ProviderError, UsageError
from trustescalate.records import (
    Certificate,
    Decision,
    Item,
    JudgeBinding,
    Judgment,
    PolicyTest,
    RunHeader,
    Step,
    Task,
    TaskKind,
    Vote,
)
from trustescalate.records.jsonl import encode
from trustescalate.records.stored import items_digest

pytestmark = pytest.mark.slow


# ── run folders ──────────────────────────────────────────────────────────────────────────────────

ITEMS = [Item(name, f"prompt {name}", ("x", "y")) for name in "abcde"]
TAUS = {"small": 0.9, "large": 0.8}


def certificate() -> Certificate:
    task = Task(TaskKind.PAIRWISE, "?", ("A", "B"))
    return Certificate(
        **dict.fromkeys(("reason", "advice", "path", "procedure", "prefer"), ""),
        **dict.fromkeys(("protocol", "data_digest", "version", "created"), ""), label_policy="majority",
        **dict.fromkeys(("diagnostics", "assumptions"), ()), estimator="ensemble",
        tests=(PolicyTest((0.9, 0.8), 1, 0, (1, 0), 0.0, 0.0, 0.1, rejected=True),),
        **dict.fromkeys(("schema", "n", "no_majority", "dropped_ties", "seed"), 0),
        status="certified", alpha=0.1, delta=0.1, claim="population", task=task, chosen=0,
        thresholds=(0.9, 0.8), coverage_lower=0.5, human_agreement=None, roles={},
        judges=(JudgeBinding("small", "f", "logprobs"), JudgeBinding("large", "g", "logprobs")),
    )  # fmt: skip


def create(folder: Path, number: int = 1) -> RunFolder:
    header = RunHeader(
        SCHEMA,
        "",
        "running",
        "2026-01-02T03:04:05Z",
        "run",
        {"judges": []},
        certificate(),
        items_digest(ITEMS),
        5,
        {},
        number,
    )
    return RunFolder.create(folder, header, ITEMS)


def rows(item_id: str, small: float = 0.7, large: float | None = 0.75) -> tuple[list[Judgment], Decision]:
    """Votes of "small", and of "large" where it is asked, with the decision that follows."""
    shares = {"small": small} if large is None else {"small": small, "large": large}
    marks = {"small": "f", "large": "g"}
    judgments = [
        Judgment(item_id, judge, marks[judge], (Vote(0, "AB", {"A": p, "B": 1 - p}),), 1)
        for judge, p in shares.items()
    ]
    trail = tuple(
        Step(judge, "A", p, p, TAUS[judge], p >= TAUS[judge], 1, 1, ()) for judge, p in shares.items()
    )
    if trail[-1].accepted:
        last = trail[-1]
        return judgments, Decision(item_id, "A", last.judge, last.score, "accepted", trail)
    return judgments, Decision(item_id, None, None, None, "below threshold at every tier", trail)


def write(folder: RunFolder, names: str) -> None:
    with RunWriter(folder) as writer:
        writer.begin(folder.load())
        for item_id in names:
            writer.record(*rows(item_id))


def test_a_run_comes_back_in_the_order_of_its_items(tmp_path: Path) -> None:
    folder = create(tmp_path)
    write(folder, "dbcae")
    folder.finish("complete")
    again = RunFolder.open(folder.path)
    run = again.load()
    assert run.header.status == "complete"
    assert run.items == tuple(ITEMS)
    assert [row.item_id for row in run.decisions] == list("abcde")
    assert [(row.item_id, row.judge) for row in run.judgments] == [
        (item_id, judge) for item_id in "abcde" for judge in ("small", "large")
    ]


def test_after_a_kill_at_any_byte_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    folder = create(tmp_path)
    write(folder, "abc")
    wanted = folder.load()
    wanted = replace(wanted, judgments=tuple(wanted.judgments))  # the file is cut below
    files = [folder.path / name for name in ("judgments.jsonl", "decisions.jsonl")]
    whole = [file.read_bytes() for file in files]
    line = [len(data) // 3 for data in whole]
    kills = [(line[0] * 2 + cut, line[1] * 2) for cut in range(0, line[0] + 1, 7)]
    kills += [(line[0] * 3, line[1] * 2 + cut) for cut in range(0, line[1], 7)]
    for kill in kills:
        for file, data, size in zip(files, whole, kill, strict=True):
            file.write_bytes(data[:size])
        left = RunFolder.open(folder.path).load()
        assert [row.item_id for row in left.decisions] == ["a", "b"]
        assert len(left.judgments) == 4
        write(folder, "c")
        assert folder.load() == wanted


def test_judgments_of_an_item_that_was_not_decided_are_left_out_and_removed(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with RunWriter(folder) as writer:
        writer.begin(folder.load())
        writer.record_judgment(rows("a")[0][0])
        writer.record(*rows("b"))
    assert [row.item_id for row in folder.load().judgments] == ["b", "b"]
    write(folder, "a")
    assert [row.item_id for row in folder.load().judgments] == ["a", "a", "b", "b"]


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "garbage": ("decisions.jsonl", lambda data: b"\x00" + data, r"decisions\.jsonl:1"),
    "an unknown item": (
        "decisions.jsonl",
        lambda data: data + encode(rows("zz")[1]) + b"\n",
        r"decisions\.jsonl:3: item 'zz' is no item of the run",
    ),
    "an item twice": (
        "decisions.jsonl",
        lambda data: data + encode(rows("a")[1]) + b"\n",
        r"decisions\.jsonl:3: item 'a' is decided twice",
    ),
    "votes twice": (
        "judgments.jsonl",
        lambda data: data + data.splitlines(keepends=True)[0],
        r"judgments\.jsonl:5: item 'a' was judged twice by 'small'",
    ),
    "votes that are missing": (
        "judgments.jsonl",
        lambda data: data.splitlines(keepends=True)[0],
        r"decisions\.jsonl:1: item 'a': there are no votes of 'large'",
    ),
    "votes that nobody asked for": (
        "decisions.jsonl",
        lambda data: encode(rows("a", 0.95, None)[1]) + b"\n",
        r"decisions\.jsonl:1: item 'a': reason is 'accepted'|label is 'A', and from the votes follows None",
    ),
    "a released item": (
        "judgments.jsonl",
        lambda data: data.replace(b'"A":0.75', b'"A":0.85').replace(b'"B":0.25', b'"B":0.15'),
        r"decisions\.jsonl:1: item 'a': label is None, and from the votes follows 'A'",
    ),
    "another judge": (
        "judgments.jsonl",
        lambda data: data.replace(b'"fingerprint":"g"', b'"fingerprint":"h"'),
        r"judgments\.jsonl:2: item 'a' was judged by another 'large'",
    ),
    "not a number": (
        "decisions.jsonl",
        lambda data: data.replace(b'"score":0.75', b'"score":NaN'),
        r"decisions\.jsonl:1: trail\.1\.score must be a finite number",
    ),
    "a probability above 1": (
        "judgments.jsonl",
        lambda data: data.replace(b'"A":0.75', b'"A":7.5'),
        r"judgments\.jsonl:2: item 'a' has a vote of 'large' that is neither failed nor",
    ),
    "a label of no task": (
        "judgments.jsonl",
        lambda data: data.replace(b'"A":0.75', b'"C":0.75'),
        r"judgments\.jsonl:2: item 'a' has a vote of 'large' that is neither failed nor",
    ),
    "a second id": (
        "judgments.jsonl",
        lambda data: data.replace(b"}\n", b',"item_id":"b"}\n', 1),
        r"judgments\.jsonl:1: item 'b' is named twice, the other time as 'a'",
    ),
    "broken votes": (
        "judgments.jsonl",
        lambda data: data.replace(b'"votes":[', b'"votes":', 1),
        r"judgments\.jsonl:1: not valid JSON",
    ),
    "an item that is gone": ("items.jsonl", lambda data: data.splitlines(keepends=True)[0], "was changed"),
    "no item": ("items.jsonl", lambda data: b"{}\n", r"items\.jsonl:1"),
}  # fmt: skip


def test_rows_and_keys_may_stand_in_any_order(tmp_path: Path) -> None:
    folder = create(tmp_path)
    write(folder, "ab")
    wanted = folder.load()
    wanted = replace(wanted, judgments=tuple(wanted.judgments))
    path = folder.path / "judgments.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    mixed = [dict(reversed(line.items())) for line in lines[::-1]]
    path.write_text("".join(json.dumps(line) + "\n" for line in mixed))
    assert folder.load() == wanted


def test_a_loaded_run_needs_its_folder_no_more_and_leaves_no_file_open(tmp_path: Path) -> None:
    folder = create(tmp_path)
    write(folder, "ab")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        run = folder.load()
    wanted = tuple(run.judgments)
    shutil.rmtree(folder.path)
    assert run.judgments == wanted
    assert copy.deepcopy(run) == pickle.loads(pickle.dumps(run)) == run
    del run
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("case", DAMAGE)
def test_a_row_that_does_not_follow_is_an_error_that_names_it(tmp_path: Path, case: str) -> None:
    folder = create(tmp_path)
    write(folder, "ab")
    name, change, message = DAMAGE[case]
    path = folder.path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        folder.load()


def test_rows_of_a_complete_run_that_follow_from_one_another_are_still_held_by_their_digest(
    tmp_path: Path,
) -> None:
    folder = create(tmp_path)
    write(folder, "abcde")
    folder.finish("complete")
    judgments, decision = rows("a", 0.95, None)
    for name, old, new in (
        ("judgments.jsonl", rows("a")[0], judgments),
        ("decisions.jsonl", [rows("a")[1]], [decision]),
    ):
        path = folder.path / name
        lines = [b"".join(encode(row) + b"\n" for row in each) for each in (old, new)]
        path.write_bytes(path.read_bytes().replace(*lines))
    with pytest.raises(DataError, match=r"judgments\.jsonl or decisions\.jsonl was changed after the run"):
        folder.load()
    assert len(RunFolder(folder.path, replace(folder.header, status="running")).load().decisions) == 5


def test_a_complete_run_that_lost_rows_is_not_complete(tmp_path: Path) -> None:
    folder = create(tmp_path)
    write(folder, "abcde")
    folder.finish("complete")
    path = folder.path / "decisions.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert RunFolder.open(folder.path).load().header.status == "stopped"


def test_a_header_that_is_missing_damaged_edited_or_foreign(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run here"):
        RunFolder.open(tmp_path / "none")
    folder = create(tmp_path)
    path = folder.path / "run.json"
    whole = path.read_bytes()
    path.write_bytes(encode(replace(folder.header, schema=SCHEMA - 1)))
    with pytest.raises(UsageError, match=f"a run of schema {SCHEMA - 1}"):
        RunFolder.open(folder.path)
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"run\.json"):
        RunFolder.open(folder.path)
    path.write_bytes(whole.replace(b'"command":"run"', b'"command":"ran"'))
    with pytest.raises(DataError, match="was changed after the run began"):
        RunFolder.open(folder.path)
    path.write_bytes(whole)
    folder.path.rename(tmp_path / "runs" / "20260102T030405Z-000000000000")
    with pytest.raises(DataError, match="and the folder is '20260102T030405Z-000000000000'"):
        RunFolder.open(tmp_path / "runs" / "20260102T030405Z-000000000000")


def test_a_kill_while_the_header_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.finish("complete")
    monkeypatch.undo()
    assert RunFolder.open(folder.path).header.status == "running"


def test_a_second_writer_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder = create(tmp_path)
    path = folder.path / "judgments.jsonl"
    with RunWriter(folder) as writer:
        writer.begin(folder.load())
        writer.record(*rows("a"))
        with path.open("ab") as file:
            file.write(b"a line that the first writer has not finished")
        before = path.read_bytes()
        with pytest.raises(UsageError, match="another process is writing this run"):
            RunWriter(folder)
        assert path.read_bytes() == before
    with RunWriter(folder):
        assert path.read_bytes().endswith(b"\n")


# ── which run, and which attempt ─────────────────────────────────────────────────────────────────


def test_an_attempt_that_left_no_run_is_not_passed_over(tmp_path: Path) -> None:
    runs, clock = tmp_path / "runs", iter(f"2026-01-0{day}T00:00:00Z" for day in range(1, 9)).__next__
    with pytest.raises(NotMeasurable, match="there is no run yet"):
        find_attempted(tmp_path)
    with recorded_attempt(runs, clock, "run") as first:
        first.run = create(tmp_path, first.number).header.id
    assert find_attempted(tmp_path).header.id == first.run
    with pytest.raises(ProviderError), recorded_attempt(runs, clock, "run"):
        raise ProviderError("judge 'small' cannot be reached")
    with pytest.raises(NotMeasurable, match=r"at 2026-01-04.*failed: judge 'small' cannot be reached"):
        find_attempted(tmp_path)
    assert find_run(tmp_path).header.id == first.run
    with pytest.raises(KeyError), recorded_attempt(runs, clock, "run"):
        raise KeyError("sk-secret")
    assert "sk-secret" not in (runs / ATTEMPTS).read_text()
    with (runs / ATTEMPTS).open("ab") as file:
        file.write(b'{"number": 9, "ev')
    with recorded_attempt(runs, clock, "run") as last:
        last.run = create(tmp_path, last.number).header.id
    assert last.number == 4
    assert find_attempted(tmp_path).header.id == last.run
    shutil.rmtree(runs / last.run)
    with pytest.raises(NotMeasurable, match=f"the last run, {last.run}, is not in"):
        find_attempted(tmp_path)


def test_an_attempt_that_was_killed_did_not_end(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with recorded_attempt(runs, lambda: "then", "run") as first:
        first.run = create(tmp_path, first.number).header.id
    log = runs / ATTEMPTS
    with recorded_attempt(runs, lambda: "later", "run"):
        killed = log.read_bytes()
    log.write_bytes(killed)
    with pytest.raises(NotMeasurable, match="at later, did not end"):
        find_attempted(tmp_path)


def test_a_header_that_cannot_be_read_is_the_last_run(tmp_path: Path) -> None:
    """No older run passes for it."""
    old = create(tmp_path)
    new = create(tmp_path, 2)
    assert run_ids(tmp_path) == [old.header.id, new.header.id]
    (old.path / "run.json").write_bytes(b"{")
    with pytest.raises(DataError, match=r"run\.json: not valid JSON"):
        find_run(tmp_path)


def test_a_path_of_another_projects_run_is_no_run_of_this_one(tmp_path: Path) -> None:
    name = create(tmp_path / "mine").path.name
    shutil.copytree(tmp_path / "mine", tmp_path / "theirs")
    mine = tmp_path / "mine"
    for good in (name, f"{name}/", f"runs/{name}", str(mine / "runs" / name)):
        assert find_run(mine, good).path == mine / "runs" / name
    for path in (tmp_path / "theirs" / "runs" / name, tmp_path / "gone" / name, f"../theirs/runs/{name}"):
        with pytest.raises(UsageError, match="is no run of"):
            find_run(mine, str(path))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"created": "yesterday"}, "'yesterday' is no time"),
        ({"created": "2026-01-02T03:04:05"}, "has no time zone"),
        ({"config": {}}, "config"),
        ({"config": {"judges": [{}]}}, "config"),
        ({"config": {"judges": "x"}}, "config"),
        ({"config": {"judges": [{"name": "a", "backend": "openai", "price": "x"}]}}, "config"),
        ({"config": {"judges": [], "data": "x"}}, "config"),
    ],
)
def test_a_header_with_a_fitting_id_and_no_runs_values_is_an_error(
    tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    header = replace(create(tmp_path).header, **change)
    with pytest.raises(DataError, match=word):
        RunFolder.open(RunFolder.create(tmp_path, header, ITEMS).path)


def test_a_run_that_was_replaced_by_a_link_is_named_as_a_link(tmp_path: Path) -> None:
    path = create(tmp_path).path
    with recorded_attempt(tmp_path / "runs", lambda: "now", "run", after=1) as attempt:
        attempt.run = path.name
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    for find in (find_attempted, lambda folder: find_run(folder, path.name)):
        with pytest.raises(UsageError, match="is a link, and no run"):
            find(tmp_path)
