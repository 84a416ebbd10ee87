"""Write and read run folders; a kill at any moment loses no complete row.

Only items, votes and the certificate are believed: the id of a run holds a digest of its header, decisions
are derived again from the votes (`verification`), and the rows of a complete run have a digest.
"""

import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from trustescalate.calibration.files import must_follow
from trustescalate.calibration.served_models import must_be_served, pinned_judges
from trustescalate.cascade.attempt_log import last_attempt
from trustescalate.cascade.batch import decide_by_labels
from trustescalate.cascade.verification import (
    EDITED,
    Unfollowed,
    check_rows,
    difference,
    failed_votes,
    only_failed,
    only_good,
    read_recorded,
)
from trustescalate.config import must_hold_no_link_out
from trustescalate.data.dataset import Dataset
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.records import Decision, Item, Judgment, Run, RunHeader
from trustescalate.records.appending import append, lock
from trustescalate.records.bounded import read_whole
from trustescalate.records.failures import may_be_answered
from trustescalate.records.item_columns import items_of
from trustescalate.records.jsonl import (
    ListDigest,
    decode,
    encode,
    read_appended,
    to_python,
    truncate_torn,
    write_atomically,
    write_rows,
)
from trustescalate.records.stored import Lines, StoredItems, read_items
from trustescalate.records.task import Json

SCHEMA = 2
RUNS = "runs"
JUDGMENTS, DECISIONS, ITEMS = "judgments.jsonl", "decisions.jsonl", "items.jsonl"
DIGITS = 12
"""Hexadecimal digits of the digest in the id of a run."""


class RunFolder:
    """One run: a header, then rows that are only appended.

    The judgments of an item precede its decision, so an item with a decision is complete; after a crash all
    others are judged again, with cache hits for known answers.
    """

    def __init__(self, path: Path, header: RunHeader) -> None:
        self.path = path
        self.header = header

    @classmethod
    def create(cls, folder: Path, header: RunHeader, items: Sequence[Item]) -> Self:
        """Start a run in a project folder: items and header first, both atomically; set its id."""
        header = replace(header, id=run_id_of(header))
        path = run_path(folder, header.id)
        path.mkdir(parents=True)
        write_rows(path / ITEMS, items)
        created = cls(path, header)
        created._write_header()
        return created

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run.

        Raises UsageError without a header or with a link out, DataError for a damaged or edited one.
        """
        must_hold_no_link_out(path.parent.parent, path)
        file = path / "run.json"
        try:
            header = decode(read_whole(file), RunHeader)
        except FileNotFoundError:
            raise UsageError(f"{path}: there is no run here", "`trustescalate run` creates one") from None
        except ValueError as error:
            raise DataError([f"{file}: {error}"], "start a new run") from None
        if header.schema != SCHEMA:
            message = f"{path}: a run of schema {header.schema}, this version reads {SCHEMA}"
            raise UsageError(message, "start a new run, and move this folder out of runs/")
        if header.id != path.name:
            raise DataError([f"{file}: id is {header.id!r}, and the folder is {path.name!r}"], EDITED)
        if header.id != run_id_of(header):
            raise DataError([f"{file}: was changed after the run began: the id no longer fits"], EDITED)
        if problem := _unusable(header):
            raise DataError([f"{file}: {problem}"], EDITED)
        return cls(path, header)

    def finish(self, status: Literal["running", "complete", "budget", "stopped"]) -> None:
        """Record the status of the run, and with "complete" a digest of its rows."""
        rows = self._rows_digest() if status == "complete" else ""
        self.header = replace(self.header, status=status, rows=rows)
        self._write_header()

    def _write_header(self) -> None:
        write_atomically(self.path / "run.json", encode(self.header) + b"\n")

    def _rows_digest(self) -> str:
        """Digest the rows as they lie on disk."""
        whole = hashlib.sha256()
        for name in (JUDGMENTS, DECISIONS):
            if (self.path / name).exists():
                with (self.path / name).open("rb") as file:
                    whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()

    def load(self) -> Run:
        """Read the run, with rows in the order of its items.

        Raises DataError for items, votes or a status that were changed, and for every decision that does not
        follow from the votes, CertificateMismatch for a reply of another model where that is pinned.
        """
        digest = ListDigest()
        items, problems = read_items(self.path / ITEMS, lambda _, item: digest.add(to_python(item)))
        if problems:
            raise DataError(problems, EDITED)
        assert isinstance(items, StoredItems)
        header = self.header
        if digest.hexdigest() != header.items_digest or len(items) != header.items:
            raise DataError([f"{self.path / ITEMS}: was changed after the run"], "start a new run")
        votes, decided = (Lines(self.path / name, missing=True) for name in (JUDGMENTS, DECISIONS))
        recorded = read_recorded(votes, decided, items)
        used, decisions, unfollowed = check_rows(header.certificate, items, recorded, header.uncertified)
        if unfollowed:
            lines = {JUDGMENTS: votes, DECISIONS: decided}
            raise DataError([self._sentence(each, lines) for each in unfollowed], EDITED)
        must_be_served(header.certificate, used, pinned_judges(header.config))
        if header.status == "complete" and len(decisions) < len(items):
            header = replace(header, status="stopped", rows="")  # rows were lost, and can be made again
        elif header.status == "complete" and header.rows != self._rows_digest():
            raise DataError([f"{self.path}: {JUDGMENTS} or {DECISIONS} was changed after the run"], EDITED)
        return Run(header, items, used, decisions)

    def _sentence(self, problem: Unfollowed, lines: Mapping[str, Lines]) -> str:
        """Name the file and line of a row that does not follow."""
        path = self.path / problem.file
        if problem.place is None:
            return f"{path}: {problem.what}"
        return f"{path}:{lines[problem.file].number(problem.place)}: {problem.what}"

    def writer(self, pinned: Collection[str] = ()) -> "RunWriter":
        """Append to this run; one process at a time. `pinned` judges keep their served models."""
        return RunWriter(self, pinned)


class RunWriter:
    """Appends whole rows, judgments before their decision; holds the lock of the folder.

    Raises CertificateMismatch, and writes nothing, for a judgment of a `pinned` judge by another served model
    than at calibration. `asked_before` are the items without a decision that have failed votes.
    """

    def __init__(self, folder: RunFolder, pinned: Collection[str] = ()) -> None:
        self._folder, self._pinned = folder, pinned
        self._files: dict[str, int] = {}
        self._recorded: set[str] = set()
        self._complete: dict[str, tuple[list[Judgment], Decision]] = {}
        self.asked_before: frozenset[str] = frozenset()
        self._lock = os.open(folder.path / ITEMS, os.O_RDWR)
        if not lock(self._lock):
            os.close(self._lock)
            raise UsageError(
                f"{folder.path}: another process is writing this run", "wait for it, or start a new run"
            )
        for name in (JUDGMENTS, DECISIONS):
            truncate_torn(folder.path / name)

    def begin(self, run: Run) -> Run:
        """Make the folder ready for the rest of a run that was loaded from it, and return what stays.

        Judgments that no decision rests on are removed, and so are decisions that failed votes left to
        people, so that these votes are asked again. Failed votes stay, for what they cost.
        """
        self._must_be_served(run.judgments)
        again = to_ask_again(run)
        together = run.header.certificate.status == "expected"
        judgments = tuple(
            row
            for row in run.judgments
            if not (
                row.item_id in again and (not together or any(may_be_answered(v.failure) for v in row.votes))
            )
        )
        decisions = tuple(row for row in run.decisions if row.item_id not in again)
        if again and together:
            decisions = ()
        self._folder.finish("running")
        path = self._folder.path
        if len(decisions) < len(run.decisions):
            write_rows(path / DECISIONS, decisions)
        written, _ = read_appended(path / JUDGMENTS, Judgment)
        kept = {(row.item_id, row.judge) for row in judgments}
        before = [row for row in written if failed_votes(row) and (row.item_id, row.judge) not in kept]
        rows = [*map(only_failed, before), *judgments]
        if again or before or len(written) > len(rows):
            write_rows(path / JUDGMENTS, rows)
        self.asked_before = frozenset(row.item_id for row in before)
        if run.header.status == "complete" and not together:
            own: dict[str, dict[str, Judgment]] = {}
            for row in written:
                own.setdefault(row.item_id, {})[row.judge] = only_good(row)
            asked = [row for row in run.decisions if row.item_id in again]
            self._complete = {row.item_id: ([*own[row.item_id].values()], row) for row in asked}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._files = {name: os.open(path / name, flags, 0o644) for name in (JUDGMENTS, DECISIONS)}
        return replace(run, header=self._folder.header, judgments=judgments, decisions=decisions)

    def record(self, judgments: Sequence[Judgment], decision: Decision) -> None:
        """Write one item."""
        self._must_be_served(judgments)
        append(self._files[JUDGMENTS], b"".join(encode(judgment) + b"\n" for judgment in judgments))
        append(self._files[DECISIONS], encode(decision) + b"\n")
        self._recorded.add(decision.item_id)

    def stop(self, status: Literal["budget", "stopped"]) -> None:
        """End early: a run that was complete has its earlier rows on what was not asked again."""
        left = {item_id: rows for item_id, rows in self._complete.items() if item_id not in self._recorded}
        for rows, decision in left.values():
            self.record(rows, decision)
        self._folder.finish("complete" if self._complete else status)

    def record_judgment(self, judgment: Judgment) -> None:
        """Write a judgment on an item that is decided later."""
        self._must_be_served([judgment])
        append(self._files[JUDGMENTS], encode(judgment) + b"\n")

    def _must_be_served(self, judgments: Sequence[Judgment]) -> None:
        must_be_served(self._folder.header.certificate, judgments, self._pinned)

    def record_decisions(self, decisions: Sequence[Decision]) -> None:
        """Write the decisions on items with recorded judgments."""
        append(self._files[DECISIONS], b"".join(encode(decision) + b"\n" for decision in decisions))

    def close(self) -> None:
        """Release the folder."""
        for file in (*self._files.values(), self._lock):
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def to_ask_again(run: Run) -> frozenset[str]:
    """Return the items that went to people with failed votes that may succeed when asked again.

    With the claim "batch" the recorded votes of the certificate are the judges, and answer as before.
    """
    if run.header.certificate.batch is not None:
        return frozenset()
    return frozenset(
        row.item_id
        for row in run.decisions
        if row.label is None
        and not (row.trail and row.trail[-1].accepted)
        and any(may_be_answered(failure) for step in row.trail for failure in step.failures)
    )


@dataclass(frozen=True, slots=True)
class _RecordedJudge:
    name: str
    backend: str
    price: Mapping[str, float | str | None] | None = None


@dataclass(frozen=True, slots=True)
class _RecordedConfig:
    """What is read of a recorded configuration; other keys are only compared."""

    judges: tuple[_RecordedJudge, ...]
    data: Mapping[str, Json] = field(default_factory=dict)


def _unusable(header: RunHeader) -> str:
    """State what of a header can be no run's; empty where nothing is."""
    try:
        if datetime.fromisoformat(header.created).tzinfo is None:
            return f"created = {header.created!r} has no time zone"
    except ValueError:
        return f"created = {header.created!r} is no time"
    try:
        decode(encode(header.config), _RecordedConfig)
    except ValueError as error:
        return f"config: {error}"
    thresholds, names = header.uncertified, [seal.judge for seal in header.certificate.judges]
    if thresholds is None:
        return ""
    if header.certificate.status != "none" or header.certificate.batch is not None:
        return "uncertified: a certificate that releases verdicts is not for an uncertified run"
    wrong = [name for name, value in thresholds.items() if name not in names or not 0 <= value <= 1]
    return f"uncertified: {wrong[0]!r} is no judge with a threshold in [0, 1]" if wrong else ""


def run_id_of(header: RunHeader) -> str:
    """Return the id of a run: its second, and a digest of all of the header that never changes."""
    fixed = replace(header, id="", status="running", rows="")
    whole = hashlib.sha256(encode(decode(encode(fixed), RunHeader)))  # decoded: numbers as a file holds them
    return f"{re.sub('[-:]', '', header.created)}-{whole.hexdigest()[:DIGITS]}"


def run_path(folder: Path, run_id: str) -> Path:
    """Return the folder of a run."""
    return folder / RUNS / run_id


def run_ids(folder: Path) -> list[str]:
    """Return the ids of all runs of a project folder, in the order in which they were created."""
    return [name for _, name in numbered_runs(folder)]


def numbered_runs(folder: Path) -> list[tuple[float, str]]:
    """Return number and id of all runs, oldest first; those of older versions have the number 0.

    A run whose header cannot be read is the last, so that no older one passes for it. A link is no run.
    """
    paths = (path for path in (folder / RUNS).glob("*/run.json") if not path.parent.is_symlink())
    return sorted((_number(path), path.parent.name) for path in paths)


@dataclass(frozen=True, slots=True)
class _Numbered:
    number: int = 0


def _number(path: Path) -> float:
    try:
        return decode(read_whole(path), _Numbered).number
    except (OSError, ValueError):
        return float("inf")


def find_run(folder: Path, run_id: str = "latest") -> RunFolder:
    """Open a run by its id, the path of its folder, or "latest": the last one that was created.

    Raises NotMeasurable without any run, UsageError for an unknown one, an empty id, or the path of a run of
    another project.
    """
    if not run_id.strip():
        raise UsageError("the run's id is empty", 'give the id of a run, or "latest"')
    known = run_ids(folder)
    if run_id != "latest":
        _must_be_no_link(folder, Path(run_id).name)
    if not known:
        raise NotMeasurable("there is no run yet", "`trustescalate run` creates one")
    name = known[-1] if run_id == "latest" else Path(run_id).name
    if name not in known:
        raise UsageError(f"there is no run {run_id!r}", f"the last ones are {', '.join(known[-3:])}")
    given = Path(run_id)
    if run_id != "latest" and given != Path(name):
        path = given if given.exists() else folder / given
        if path.resolve() != run_path(folder, name).resolve():
            raise UsageError(f"{run_id}: is no run of {folder.resolve()}", "give --config of its project")
    return RunFolder.open(run_path(folder, name))


def _must_be_no_link(folder: Path, name: str) -> None:
    path = run_path(folder, name)
    if name and path.is_symlink():
        raise UsageError(f"{path}: is a link, and no run", "replace it by the folder of the run itself")


def find_attempted(folder: Path) -> RunFolder:
    """Open the run of the last attempt to run. Raises NotMeasurable if that attempt left none.

    An attempt that stopped on the way left an incomplete run, which is opened.
    """
    attempted, known = last_attempt(folder / RUNS), numbered_runs(folder)
    if attempted is None or (known and attempted.number <= known[-1][0]):
        return find_run(folder)
    names = {name for _, name in known}
    if attempted.run in names:
        resumed = RunFolder.open(run_path(folder, attempted.run))
        if attempted.event == "ended" or resumed.header.status != "complete":
            return resumed
    elif attempted.event == "ended":
        _must_be_no_link(folder, attempted.run)
        message = f"the last run, {attempted.run}, is not in {folder / RUNS}"
        raise NotMeasurable(message, "run again, or name a run")
    if known:
        find_run(folder)  # a last run that is damaged, or leads out of the folder, is named first
    why = f"failed: {attempted.error}" if attempted.event == "failed" else "did not end"
    raise NotMeasurable(
        f"the last attempt to run, at {attempted.time}, {why}", "run again, or name the run that is meant"
    )


def with_labels(folder: RunFolder, data: Dataset) -> Run:
    """Load a run with human labels, except of rows used by the certificate or with other texts."""
    must_follow(folder.path / "run.json", folder.header.certificate)
    run = folder.load()
    if run.header.certificate.batch is not None:
        by_item = {row.item_id: row for row in run.decisions}
        decided = list(items_of(run.items, by_item))
        problems = [
            f"{folder.path / DECISIONS}: item {derived.item_id!r}: {what}"
            for derived in decide_by_labels(run.header.certificate, data.annotations, decided)
            if (what := difference(by_item[derived.item_id], derived))
        ]
        if problems:
            raise DataError(problems, EDITED)
    fresh = data.annotated - used_items(run.header)
    return replace(run, annotations=data.notes_on(run.items, fresh))


def load_run(folder: Path, data: Dataset, run_id: str | None = None) -> Run:
    """Load a run, by default the latest, with the present human labels of its items."""
    return with_labels(find_run(folder, "latest" if run_id is None else run_id), data)


def used_items(header: RunHeader) -> frozenset[str]:
    """Return the items whose labels made a run: all with a role in its certificate except holdout.

    In an uncertified run those that made its judges: few-shot examples, and rows that one is fitted on.
    """
    roles = header.certificate.roles
    if header.uncertified is None:
        return frozenset(item_id for role, ids in roles.items() if role != "holdout" for item_id in ids)
    fit_on = {table.get("fit_on") for table in header.config.get("judges", ())}
    made_of = ("exemplars", "dev") if "labels" in fit_on else ("exemplars",)
    return frozenset(item_id for role in made_of for item_id in roles[role])
