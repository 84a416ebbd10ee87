"""Write and read run folders; a kill at any moment loses no complete row."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from trustescalate.calibration.files import must_follow
from trustescalate.config import must_hold_no_link_out
from trustescalate.data.dataset import Dataset
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.records import Annotation, Certificate, Decision, Item, Judgment, Run, RunHeader
from trustescalate.records.appending import append, lock
from trustescalate.records.bounded import read_whole
from trustescalate.records.jsonl import (
    decode,
    digest,
    encode,
    read_appended,
    read_rows,
    to_python,
    truncate_torn,
    write_atomically,
    write_rows,
)

SCHEMA = 1
RUNS = "runs"


class RunFolder:
    """One run: a header, then rows that are only appended.

    The judgments of an item precede its decision, so an item with a decision is complete; after a crash all
    others are judged again, with cache hits for known answers.
    """

    def __init__(self, path: Path, header: RunHeader) -> None:
        self.path = path
        self.header = header

    @classmethod
    def create(cls, path: Path, header: RunHeader, items: Sequence[Item]) -> Self:
        """Start a run: items and header first, both atomically."""
        path.mkdir(parents=True)
        write_rows(path / "items.jsonl", items)
        folder = cls(path, header)
        folder._write_header()
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run. Raises UsageError without a header or with a link out, DataError for a damaged one."""
        must_hold_no_link_out(path.parent.parent, path)
        try:
            header = decode(read_whole(path / "run.json"), RunHeader)
        except FileNotFoundError:
            raise UsageError(f"{path}: there is no run here", "`trustescalate run` creates one") from None
        except ValueError as error:
            raise DataError([f"{path / 'run.json'}: {error}"], "start a new run") from None
        if header.schema != SCHEMA:
            raise UsageError(f"{path}: a run of schema {header.schema}, this version reads {SCHEMA}")
        return cls(path, header)

    def finish(self, status: Literal["running", "complete", "budget", "stopped"]) -> None:
        """Record the status of the run."""
        self.header = replace(self.header, status=status)
        self._write_header()

    def _write_header(self) -> None:
        write_atomically(self.path / "run.json", encode(self.header) + b"\n")

    def decided(self) -> set[str]:
        """Return the ids of decided items."""
        decisions, _ = read_appended(self.path / "decisions.jsonl", Decision)
        return {decision.item_id for decision in decisions}

    def judgments(self) -> list[Judgment]:
        """Return all recorded judgments, also of undecided items."""
        judgments, _ = read_appended(self.path / "judgments.jsonl", Judgment)
        return judgments

    def load(self, annotations: Iterable[Annotation] = ()) -> Run:
        """Read the run, with rows in the order of its items."""
        rows, problems = read_rows(self.path / "items.jsonl", Item)
        if problems:
            raise DataError(problems, "the run folder was edited or damaged; start a new run")
        items = tuple(row.record for row in rows)
        decisions, _ = read_appended(self.path / "decisions.jsonl", Decision)
        judgments = self.judgments()
        by_item = {decision.item_id: decision for decision in decisions}
        asked = {(row.item_id, row.judge): row for row in judgments}
        decided = tuple(by_item[item.id] for item in items if item.id in by_item)
        steps = [(decision.item_id, step.judge) for decision in decided for step in decision.trail]
        if len(decided) < len(by_item) or not asked.keys() >= set(steps):
            problem = f"{self.path}: items.jsonl, judgments.jsonl and decisions.jsonl do not match"
            raise DataError([problem], "the run folder was edited or damaged; start a new run")
        known = {item.id for item in items}
        # With the claim "expected" all items are decided at the end: include judgments without a decision.
        whole = list(asked) if self.header.certificate.status == "expected" else steps
        return Run(
            self.header,
            items,
            tuple(asked[step] for step in whole),
            decided,
            tuple(row for row in annotations if row.item_id in known),
        )

    def writer(self) -> "RunWriter":
        """Append to this run; one process at a time."""
        return RunWriter(self.path)


class RunWriter:
    """Appends whole rows, judgments before their decision; holds the lock of the folder."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._judgments = os.open(path / "judgments.jsonl", flags, 0o644)
        self._decisions = os.open(path / "decisions.jsonl", flags, 0o644)
        if not lock(self._decisions):
            self.close()
            raise UsageError(
                f"{path}: another process is writing this run", "wait for it, or start a new run"
            )
        for name in ("judgments.jsonl", "decisions.jsonl"):
            truncate_torn(path / name)

    def record(self, judgments: Sequence[Judgment], decision: Decision) -> None:
        """Write one item."""
        append(self._judgments, b"".join(encode(judgment) + b"\n" for judgment in judgments))
        append(self._decisions, encode(decision) + b"\n")

    def record_judgment(self, judgment: Judgment) -> None:
        """Write a judgment on an item that is decided later."""
        append(self._judgments, encode(judgment) + b"\n")

    def record_decisions(self, decisions: Sequence[Decision]) -> None:
        """Write the decisions on items with recorded judgments."""
        append(self._decisions, b"".join(encode(decision) + b"\n" for decision in decisions))

    def close(self) -> None:
        """Release the folder."""
        os.close(self._judgments)
        os.close(self._decisions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_path(folder: Path, run_id: str) -> Path:
    """Return the folder of a run."""
    return folder / RUNS / run_id


def run_ids(folder: Path) -> list[str]:
    """Return the ids of all runs of a project folder, oldest first; a link to a run is none."""
    paths = [path.parent for path in (folder / RUNS).glob("*/run.json") if not path.parent.is_symlink()]
    return [path.name for path in sorted(paths, key=_age)]


def find_run(folder: Path, run_id: str = "latest") -> RunFolder:
    """Open a run by its id, the path of its folder, or "latest".

    Raises NotMeasurable without any run, UsageError for an unknown one.
    """
    known = run_ids(folder)
    if not known:
        raise NotMeasurable("there is no run yet", "`trustescalate run` creates one")
    name = known[-1] if run_id == "latest" else Path(run_id).name
    if name not in known:
        raise UsageError(f"there is no run {run_id!r}", f"the last ones are {', '.join(known[-3:])}")
    return RunFolder.open(run_path(folder, name))


def with_labels(folder: RunFolder, data: Dataset) -> Run:
    """Load a run with human labels, except of rows used by the certificate or with other texts."""
    run = folder.load()
    if items_digest(run.items) != run.header.items_digest:
        raise DataError([f"{folder.path / 'items.jsonl'}: was changed after the run"], "start a new run")
    must_follow(folder.path / "run.json", run.header.certificate)
    used = used_items(run.header.certificate)
    texts = {item.id: (item.prompt, item.responses) for item in run.items if item.id not in used}
    known = {item.id for item in data.items if texts.get(item.id) == (item.prompt, item.responses)}
    return replace(run, annotations=tuple(note for note in data.annotations if note.item_id in known))


def load_run(folder: Path, data: Dataset, run_id: str | None = None) -> Run:
    """Load a run, by default the latest, with the present human labels of its items."""
    return with_labels(find_run(folder, run_id or "latest"), data)


def items_digest(items: Sequence[Item]) -> str:
    """Return a digest of the items of a run in order."""
    return digest([to_python(item) for item in items])


def used_items(certificate: Certificate) -> frozenset[str]:
    """Return the items of a certificate: all with a role except holdout."""
    return frozenset(
        item_id for role, ids in certificate.roles.items() if role != "holdout" for item_id in ids
    )


def _age(folder: Path) -> tuple[str, int]:
    """Order by the second in the id, then by file time."""
    return folder.name.partition("-")[0], (folder / "items.jsonl").stat().st_mtime_ns
