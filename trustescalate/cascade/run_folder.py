"""Write and read run folders; a kill at any moment loses no complete row.

Only items, votes and the certificate are believed: the id of a run holds a digest of its header, decisions
are derived again from the votes (`verification`), and the rows of a complete run have a digest.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
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
    read_recorded,
)
from trustescalate.config import must_hold_no_link_out
from trustescalate.data.dataset import Dataset
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.records import Item, Run, RunHeader
from trustescalate.records.bounded import read_whole
from trustescalate.records.decisions import decided_places
from trustescalate.records.item_columns import places_of
from trustescalate.records.jsonl import (
    ListDigest,
    decode,
    encode,
    to_python,
    write_atomically,
    write_rows,
)
from trustescalate.records.stored import (
    Lines,
    StoredItems,
    read_items,
    take_items,
)
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


def whole_run_ids(folder: Path) -> list[str]:
    """Return the ids of the runs that are no shards, in the order in which they were created."""
    numbered = ((name, _numbered(run_path(folder, name) / "run.json")) for name in run_ids(folder))
    return [name for name, header in numbered if header is None or header.shard is None]


@dataclass(frozen=True, slots=True)
class _Numbered:
    number: int = 0
    shard: Mapping[str, Json] | None = None


def _number(path: Path) -> float:
    header = _numbered(path)
    return float("inf") if header is None else header.number


def _numbered(path: Path) -> _Numbered | None:
    """What orders a run, and whether it is a shard; None for a header that cannot be read."""
    try:
        return decode(read_whole(path), _Numbered)
    except (OSError, ValueError):
        return None


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
        decided, places = decided_places(run), places_of(run.items)
        items = take_items(run.items, [place for place, row in enumerate(decided) if row >= 0])
        problems = [
            f"{folder.path / DECISIONS}: item {derived.item_id!r}: {what}"
            for derived in decide_by_labels(run.header.certificate, data.annotations, items)
            if (what := difference(run.decisions[decided[places[derived.item_id]]], derived))
        ]
        if problems:
            raise DataError(problems, EDITED)
    fresh = data.annotated - used_items(run.header)
    return replace(run, annotations=data.notes_on(run.items, fresh))


def load_run(folder: Path, data: Dataset, run_id: str | None = None) -> Run:
    """Load a run, by default the latest, with the present human labels of its items."""
    judged = find_run(folder, "latest" if run_id is None else run_id)
    must_be_whole(judged.header)
    return with_labels(judged, data)


def must_be_whole(header: RunHeader) -> None:
    """Raise UsageError for a shard: its figures are about a part of the items."""
    if header.shard is not None:
        message = f"run {header.id} is {header.shard}, and not the whole run"
        raise UsageError(message, "`trustescalate merge RUN…` makes one run of all shards; name that one")


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
