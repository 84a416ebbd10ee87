"""Stored replies, read again by the reader of today: no judge is asked, and nothing is paid.

After an upgrade of the reader: which votes would it read differently? Replies are read as `votes[].raw` keeps
them; probabilities that were weighed once stay, unless the reader no longer finds their verdict. Nothing is
changed in place: a certificate rests on the votes as they were read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trustescalate.calibration.files import CERTIFICATE_VOTES, read_certificate
from trustescalate.cascade.run_folder import load_run, run_ids
from trustescalate.config import Config, ModelTable, ReplayJudge
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.judges.base import EnsembleJudge
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.registry import JUDGING, ensemble_judge, fingerprint
from trustescalate.judges.templates import NONCED
from trustescalate.records import Certificate, Item, Judgment, Reply, Request, Vote
from trustescalate.records.jsonl import read_rows, write_rows

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Change:
    """A vote that the reader reads differently now: a label, or why there is none, before and after."""

    item: str
    judge: str
    exemplar_set: int
    order: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Reparsed:
    """What reading again found. Of `unread` votes the reply was not kept, or the question is not known."""

    source: str
    votes: int
    unread: int
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    written: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        said = [
            f"{self.source}: {self.votes:,} votes read again, {len(self.changes):,} would change, "
            f"{self.unread:,} cannot be read again"
        ]
        kinds = Counter((change.judge, change.before, change.after) for change in self.changes)
        said += [f"  {judge}: {old} → {new}: {n:,}" for (judge, old, new), n in sorted(kinds.items())]
        said += [
            f"  item {c.item}, {c.judge}, prompt {c.exemplar_set + 1} {c.order}".rstrip()
            + f": {c.before} → {c.after}"
            for c in self.changes[:SHOWN]
        ]
        said += [f"  … and {len(self.changes) - SHOWN:,} more (--json lists all)"] * (
            len(self.changes) > SHOWN
        )
        said += [f"note: {note}" for note in self.notes]
        return [*said, f"written: {self.written}"] if self.written else said


def reparse(config: Config, source: str | None = None, write: Path | None = None) -> Reparsed:
    """Read the replies of a run (by id, or "latest") or of the "certificate" again; `write` a new votes file.

    Raises NotMeasurable where there are no votes, UsageError where `write` exists, DataError for a bad file.
    """
    if write is not None and write.exists():
        raise UsageError(f"{write} exists already", "name a new file")
    name, certificate, items, rows = _stored(config, source)
    judges, notes = _readers(config, certificate, rows)
    made: list[Judgment] = []
    changes: list[Change] = []
    read = unread = 0
    for row in rows:
        reader, item = judges.get(row.judge), items.get(row.item_id)
        votes = [vote if reader is None or item is None else reader.reread(item, vote) for vote in row.votes]
        known = [bool(vote.raw) and reader is not None and item is not None for vote in row.votes]
        read, unread = read + sum(known), unread + len(known) - sum(known)
        changes += [
            Change(row.item_id, row.judge, old.exemplar_set, old.order, _said(old), _said(new))
            for old, new in zip(row.votes, votes, strict=True)
            if new != old
        ]
        made.append(
            replace(row, votes=tuple(votes), fingerprint=reader.fingerprint if reader else row.fingerprint)
        )
    if write is not None:
        write_rows(write, made)
    return Reparsed(name, read, unread, tuple(changes), tuple(notes), str(write or ""))


def _stored(
    config: Config, source: str | None
) -> tuple[str, Certificate, Mapping[str, Item], Sequence[Judgment]]:
    if source != "certificate" and (source is not None or run_ids(config.folder)):
        run = load_run(config.folder, load_dataset(config), source)
        return f"run {run.header.id}", run.header.certificate, {i.id: i for i in run.items}, run.judgments
    path = config.folder / CERTIFICATE_VOTES
    certificate = read_certificate(config.folder)
    if not path.exists():
        raise NotMeasurable(f"{path}: there are no recorded votes", "`trustescalate calibrate` records them")
    rows, problems = read_rows(path, Judgment)
    if problems:
        raise DataError(problems, "calibrate again")
    items = {item.id: item for item in load_dataset(config).items}
    return "certificate", certificate, items, [row.record for row in rows]


def _readers(
    config: Config, certificate: Certificate, rows: Sequence[Judgment]
) -> tuple[dict[str, EnsembleJudge], list[str]]:
    """The judges of the configuration as readers, and why others are none."""
    exemplars = exemplars_of(config, load_dataset(config), certificate.roles["exemplars"])
    prints = {row.judge: row.fingerprint for row in rows}
    judges: dict[str, EnsembleJudge] = {}
    notes: list[str] = []
    for table in config.judges:
        if table.name not in prints:
            continue
        if isinstance(table, ReplayJudge):
            notes.append(f"{table.name} is replayed: read its votes again where they were recorded")
            continue
        if not isinstance(table, ModelTable):
            notes.append(f"{table.name} writes no reply that could be read again")
            continue
        ever = [fingerprint(config, table, exemplars, version) for version in range(1, JUDGING + 1)]
        if prints[table.name] in ever:
            judges[table.name] = ensemble_judge(config, table, exemplars, _nobody)
        elif table.mode in NONCED:
            notes.append(
                f"{table.name} is asked differently today, and the codes of its verdicts are not known"
            )
        else:
            notes.append(f"{table.name} is asked differently today: read as if it had been asked like this")
            judges[table.name] = ensemble_judge(config, table, exemplars, _nobody)
    gone = sorted(set(prints) - {table.name for table in config.judges})
    return judges, notes + [f"{name} is not in the configuration" for name in gone]


async def _nobody(request: Request) -> Reply:
    raise AssertionError(f"nobody is asked, and certainly not {len(request.messages)} messages")


def _said(vote: Vote) -> str:
    if vote.failure is not None:
        return vote.failure
    label = max(vote.probs, key=lambda name: vote.probs[name])
    return f"{label} {vote.probs[label]:.2f}"
