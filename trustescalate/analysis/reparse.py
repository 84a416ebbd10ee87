"""Parse stored replies again with the present parser and list the votes that would change; no model calls.

Replies are read from `votes[].raw`; probabilities from logprobs stay unless the parser no longer finds their
verdict. Nothing is changed in place: a certificate rests on the votes as first parsed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trustescalate.calibration.files import CERTIFICATE_VOTES, read_certificate
from trustescalate.cascade.run_folder import load_run, run_ids
from trustescalate.config import Config, ModelTable, ReplayJudge
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.judges.base import EnsembleJudge, no_model
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.registry import JUDGING, ensemble_judge, fingerprint
from trustescalate.judges.templates import NONCED
from trustescalate.records import Certificate, Item, Judgment, Vote
from trustescalate.records.item_columns import items_by_id
from trustescalate.records.jsonl import read_rows, write_rows

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Change:
    """A vote that would change: its label or failure, before and after."""

    item: str
    judge: str
    exemplar_set: int
    order: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Reparsed:
    """The result of parsing again. For `unread` votes the reply or the prompt is unknown."""

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
        text = [
            f"{self.source}: {self.votes:,} votes parsed again, {len(self.changes):,} would change, "
            f"{self.unread:,} cannot be parsed again"
        ]
        kinds = Counter((change.judge, change.before, change.after) for change in self.changes)
        text += [f"  {judge}: {old} → {new}: {n:,}" for (judge, old, new), n in sorted(kinds.items())]
        text += [
            f"  item {c.item}, {c.judge}, prompt {c.exemplar_set + 1} {c.order}".rstrip()
            + f": {c.before} → {c.after}"
            for c in self.changes[:SHOWN]
        ]
        text += [f"  … and {len(self.changes) - SHOWN:,} more (--json lists all)"] * (
            len(self.changes) > SHOWN
        )
        text += [f"note: {note}" for note in self.notes]
        return [*text, f"written: {self.written}"] if self.written else text


def reparse(config: Config, source: str | None = None, write: Path | None = None) -> Reparsed:
    """Parse the replies of a run (by id, or "latest") or of the "certificate" again; `write` a new votes
    file.

    Raises NotMeasurable without votes, UsageError if `write` exists, DataError for an invalid file.
    """
    if write is not None and write.exists():
        raise UsageError(f"{write} exists already", "name a new file")
    data = load_dataset(config)
    name, certificate, items, rows = _stored_votes(config, data, source)
    judges, notes = _parsing_judges(config, data, certificate, rows)
    parsed: list[Judgment] = []
    changes: list[Change] = []
    read = unread = 0
    for row in rows:
        reader, item = judges.get(row.judge), items.get(row.item_id)
        votes = [vote if reader is None or item is None else reader.reread(item, vote) for vote in row.votes]
        known = [bool(vote.raw) and reader is not None and item is not None for vote in row.votes]
        read, unread = read + sum(known), unread + len(known) - sum(known)
        changes += [
            Change(row.item_id, row.judge, old.exemplar_set, old.order, _outcome(old), _outcome(new))
            for old, new in zip(row.votes, votes, strict=True)
            if new != old
        ]
        parsed.append(
            replace(row, votes=tuple(votes), fingerprint=reader.fingerprint if reader else row.fingerprint)
        )
    if write is not None:
        write_rows(write, parsed)
    return Reparsed(name, read, unread, tuple(changes), tuple(notes), str(write or ""))


def _stored_votes(
    config: Config, data: Dataset, source: str | None
) -> tuple[str, Certificate, Mapping[str, Item], Sequence[Judgment]]:
    if source != "certificate" and (source is not None or run_ids(config.folder)):
        run = load_run(config.folder, data, source)
        return f"run {run.header.id}", run.header.certificate, items_by_id(run.items), run.judgments
    path = config.folder / CERTIFICATE_VOTES
    certificate = read_certificate(config.folder)
    if not path.exists():
        raise NotMeasurable(f"{path}: there are no recorded votes", "`trustescalate calibrate` records them")
    rows, problems = read_rows(path, Judgment)
    if problems:
        raise DataError(problems, "calibrate again")
    items = items_by_id(data.items)
    return "certificate", certificate, items, [row.record for row in rows]


def _parsing_judges(
    config: Config, data: Dataset, certificate: Certificate, rows: Sequence[Judgment]
) -> tuple[dict[str, EnsembleJudge], list[str]]:
    """Return the judges of the configuration that can parse, and notes on the others."""
    exemplars = exemplars_of(config, data, certificate.roles["exemplars"])
    prints = {row.judge: row.fingerprint for row in rows}
    judges: dict[str, EnsembleJudge] = {}
    notes: list[str] = []
    for table in config.judges:
        if table.name not in prints:
            continue
        if isinstance(table, ReplayJudge):
            notes.append(f"{table.name} is replayed: parse its votes again in the project that recorded them")
            continue
        if not isinstance(table, ModelTable):
            notes.append(f"{table.name} writes no reply to parse")
            continue
        ever = [fingerprint(config, table, exemplars, version) for version in range(1, JUDGING + 1)]
        if prints[table.name] in ever:
            judges[table.name] = ensemble_judge(config, table, exemplars, no_model)
        elif table.mode in NONCED:
            notes.append(
                f"the prompt of {table.name} has changed, and the codes of its verdicts are not known"
            )
        else:
            notes.append(f"the prompt of {table.name} has changed: parsed as replies to the present prompt")
            judges[table.name] = ensemble_judge(config, table, exemplars, no_model)
    gone = sorted(set(prints) - {table.name for table in config.judges})
    return judges, notes + [f"{name} is not in the configuration" for name in gone]


def _outcome(vote: Vote) -> str:
    if vote.failure is not None:
        return vote.failure
    label = max(vote.probs, key=lambda name: vote.probs[name])
    return f"{label} {vote.probs[label]:.2f}"
