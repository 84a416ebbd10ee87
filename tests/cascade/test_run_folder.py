"""Run folders: damage, kills and two writers."""

from dataclasses import replace
from pathlib import Path

import pytest

from trustescalate.cascade.run_folder import SCHEMA, RunFolder
from trustescalate.errors import DataError, UsageError
from trustescalate.records import (
    Annotation,
    Certificate,
    Decision,
    Item,
    JudgeBinding,
    Judgment,
    RunHeader,
    Step,
    Task,
    TaskKind,
    Vote,
)
from trustescalate.records.jsonl import digest, encode

pytestmark = pytest.mark.slow


# ── run folders ──────────────────────────────────────────────────────────────────────────────────

ITEMS = [Item(name, f"prompt {name}", ("x", "y")) for name in "abcde"]


def certificate() -> Certificate:
    task = Task(TaskKind.PAIRWISE, "?", ("A", "B"))
    return Certificate(
        **dict.fromkeys(("reason", "advice", "path", "procedure", "prefer", "estimator"), ""),
        **dict.fromkeys(("protocol", "data_digest", "version", "created"), ""), label_policy="majority",
        **dict.fromkeys(("tests", "diagnostics", "assumptions"), ()),
        **dict.fromkeys(("schema", "n", "no_majority", "dropped_ties", "seed"), 0),
        status="certified", alpha=0.1, delta=0.1, claim="population", task=task, chosen=0,
        thresholds=(0.9, 0.8), coverage_lower=0.5, human_agreement=None, roles={},
        judges=(JudgeBinding("small", "f", "logprobs"), JudgeBinding("large", "g", "logprobs")),
    )  # fmt: skip


def create(folder: Path) -> RunFolder:
    header = RunHeader(SCHEMA, "r", "running", "now", "run", {}, certificate(), digest(""), 5, {})
    return RunFolder.create(folder / "r", header, ITEMS)


def rows(item_id: str, *judges: str) -> tuple[list[Judgment], Decision]:
    judgments = [Judgment(item_id, judge, "f", (Vote(0, "AB", {"A": 0.7}),), 1) for judge in judges]
    trail = tuple(Step(judge, "A", 0.7, 0.7, 0.9, False, 1, 1, ()) for judge in judges)
    return judgments, Decision(item_id, None, None, None, "below", trail)


def test_a_run_comes_back_in_the_order_of_its_items(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with folder.writer() as writer:
        for item_id in "dbca":
            writer.record(*rows(item_id, "small", "large"))
    folder.finish("complete")
    again = RunFolder.open(tmp_path / "r")
    run = again.load([Annotation("a", "ann", "A"), Annotation("zz", "ann", "A")])
    assert run.header.status == "complete"
    assert run.items == tuple(ITEMS)
    assert [row.item_id for row in run.decisions] == list("abcd")
    assert [(row.item_id, row.judge) for row in run.judgments] == [
        (item_id, judge) for item_id in "abcd" for judge in ("small", "large")
    ]
    assert [row.item_id for row in run.annotations] == ["a"]
    assert again.decided() == set("abcd")


def test_after_a_kill_at_any_byte_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with folder.writer() as writer:
        for item_id in "abc":
            writer.record(*rows(item_id, "small"))
    wanted = folder.load()
    files = [tmp_path / "r" / name for name in ("judgments.jsonl", "decisions.jsonl")]
    whole = [file.read_bytes() for file in files]
    line = [len(data) // 3 for data in whole]
    kills = [(line[0] * 2 + cut, line[1] * 2) for cut in range(0, line[0] + 1, 7)]
    kills += [(line[0] * 3, line[1] * 2 + cut) for cut in range(0, line[1], 7)]
    for kill in kills:
        for file, data, size in zip(files, whole, kill, strict=True):
            file.write_bytes(data[:size])
        assert RunFolder.open(tmp_path / "r").decided() == {"a", "b"}
        assert len(folder.load().judgments) == 2
        with folder.writer() as writer:
            writer.record(*rows("c", "small"))
        assert folder.load() == wanted


def test_judgments_of_an_attempt_that_was_not_finished_are_left_out(tmp_path: Path) -> None:
    folder = create(tmp_path)
    with folder.writer() as writer:
        judgments, _ = rows("a", "small", "large")
        writer.record(judgments, rows("b")[1])
        writer.record(*rows("a", "small"))
    assert [(row.item_id, row.judge) for row in folder.load().judgments] == [("a", "small")]


def test_a_damaged_folder_is_an_error(tmp_path: Path) -> None:
    folder = create(tmp_path)
    path = tmp_path / "r" / "decisions.jsonl"
    with folder.writer() as writer:
        writer.record(*rows("a", "small"))
        writer.record(*rows("b", "small"))
    good = path.read_bytes()
    path.write_bytes(b"\x00" + good)
    with pytest.raises(DataError, match=r"decisions\.jsonl:1"):
        folder.load()
    path.write_bytes(good + encode(rows("zz")[1]) + b"\n")
    with pytest.raises(DataError, match="do not match"):
        folder.load()
    path.write_bytes(good)
    judgments = tmp_path / "r" / "judgments.jsonl"
    judgments.write_bytes(judgments.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(DataError, match="do not match"):
        folder.load()
    (tmp_path / "r" / "items.jsonl").write_bytes(b"{}\n")
    with pytest.raises(DataError, match=r"items\.jsonl:1"):
        folder.load()


def test_a_header_that_is_missing_damaged_or_foreign(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run here"):
        RunFolder.open(tmp_path / "none")
    folder = create(tmp_path)
    path = tmp_path / "r" / "run.json"
    path.write_bytes(encode(replace(folder.header, schema=SCHEMA + 1)))
    with pytest.raises(UsageError, match=f"a run of schema {SCHEMA + 1}"):
        RunFolder.open(tmp_path / "r")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"run\.json"):
        RunFolder.open(tmp_path / "r")


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
    assert RunFolder.open(tmp_path / "r").header.status == "running"


def test_a_second_writer_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder = create(tmp_path)
    path = tmp_path / "r" / "judgments.jsonl"
    with folder.writer() as writer:
        writer.record(*rows("a", "small"))
        with path.open("ab") as file:
            file.write(b"a line that the first writer has not finished")
        before = path.read_bytes()
        with pytest.raises(UsageError, match="another process is writing this run"):
            folder.writer()
        assert path.read_bytes() == before
    with folder.writer():
        assert path.read_bytes().endswith(b"\n")
