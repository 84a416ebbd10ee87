"""Record every test of a label, and every command that read labels to choose, in ledger.jsonl.

`ledger.jsonl` only grows. A test is written down before its outcome is known, with a digest of each of its
labels; the outcome follows. Each later test of a label spends a share of delta of its own, so that the
guarantee holds over all of them (docs/decisions/0012-every-test-of-a-label-counts.md has the proof). A line
holds the digest of the line before it, and a certificate that of its own, so that a lost line is noticed.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from trustescalate.calibration.protocol import Judged, Protocol, labels_digest
from trustescalate.errors import CertificateMismatch, DataError, UsageError
from trustescalate.records import STRICT, Annotation, Certificate, Item, Json
from trustescalate.records.appending import append, lock
from trustescalate.records.jsonl import canonical, digest, encode, read_appended, to_python, truncate_torn

LEDGER = "ledger.jsonl"
LENGTH = 16
"""Hexadecimal digits of a digest of a row: two rows that share one by chance are counted as the same."""
FRESH = (
    "label rows that were never tested, and give the tested ones the role dev in the file that "
    "`trustescalate check --write-roles` writes ([roles] file), or leave them out of [data]"
)
RESTORE = (
    "restore the file as it was when the certificate was made (keep both under version control); if it is "
    "lost, these labels count as tested: start in a new folder, with rows that were never tested"
)


class Labels(NamedTuple):
    """Labels as the ledger knows them, whatever ids and order: digests of rows with those of their labels.

    `clusters` are digests of the clusters that the rows belong to: their rows are not independent.
    """

    rows: tuple[tuple[str, str], ...]
    clusters: tuple[str, ...]

    @property
    def keys(self) -> frozenset[str]:
        """The keys that two tests share if they share a label."""
        return frozenset((*(row for row, _ in self.rows), *self.clusters))


@dataclass(frozen=True, slots=True)
class Interim:
    """A planned interim analysis: its `number`, a digest of all that was `decided` but rows, and their ids.

    `roles` stay what they were at the first one.
    """

    number: int
    decided: str
    roles: Mapping[str, tuple[str, ...]]
    rows: tuple[str, ...]
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a test that is about to be made, the outcome of one, or a choice that labels were read for.

    `previous` is the digest of the line before. A test has a `number`, a `share` of delta, and digests of its
    `protocol`, of the `votes` that it reads, and of its `rows` with their labels. An outcome names the `test`
    by the digest of its line, and the `certificate` by its digest without its date. A choice names the
    `command` that read the labels of `rows`.
    """

    previous: str
    event: Literal["test", "outcome", "choice"]
    number: int = 0
    share: float = 0.0
    protocol: str = ""
    votes: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    clusters: tuple[str, ...] = ()
    interim: Interim | None = None
    test: str = ""
    outcome: Literal["certified", "expected", "none", ""] = ""
    certificate: str = ""
    command: str = ""
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT

    @property
    def labels(self) -> Labels:
        """The labels of a test or of a choice."""
        return Labels(self.rows, self.clusters)

    @property
    def digest(self) -> str:
        """The digest of a line, and so of all lines before it."""
        return digest(encode(self).decode())


@dataclass(frozen=True)
class Ledger:
    """The lines of ledger.jsonl in `folder`, oldest first; none where there is no file."""

    folder: Path
    lines: tuple[Line, ...] = ()

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.folder / LEDGER

    @property
    def tests(self) -> list[Line]:
        """All tests, oldest first."""
        return [line for line in self.lines if line.event == "test"]

    @cached_property
    def digests(self) -> Mapping[str, Line]:
        """The lines by their digests."""
        return {line.digest: line for line in self.lines}

    @cached_property
    def chosen_by(self) -> Mapping[str, str]:
        """The command that read a label to choose, by the keys of `Labels`."""
        return {
            key: line.command for line in self.lines if line.event == "choice" for key in line.labels.keys
        }

    def before(self, labels: Labels) -> list[Line]:
        """The tests that share a label with these, oldest first."""
        return [line for line in self.tests if not labels.keys.isdisjoint(line.labels.keys)]

    def times(self, labels: Labels) -> Counter[str]:
        """Number of tests of each of these rows and clusters that was tested."""
        return Counter(key for line in self.before(labels) for key in labels.keys & line.labels.keys)

    def spent(self, labels: Labels) -> float:
        """The largest share of delta that was spent on any of these labels."""
        shares: dict[str, float] = defaultdict(float)
        for line in self.before(labels):
            for key in labels.keys & line.labels.keys:
                shares[key] += line.share
        return max(shares.values(), default=0.0)

    def same(self, protocol: str, labels: Labels, votes: str | None) -> Line | None:
        """The test that was made of just these labels by this protocol, on these votes if they are known."""
        rows = set(labels.rows)
        for line in reversed(self.tests):
            if line.protocol == protocol and votes in (None, line.votes) and set(line.rows) == rows:
                return line
        return None

    def plan(self, items: Iterable[Item]) -> Line | None:
        """The last interim analysis, if any of its rows is among these labelled items: the plan goes on."""
        last = next((line for line in reversed(self.tests) if line.interim is not None), None)
        if last is None or last.labels.keys.isdisjoint(map(row_digest, items)):
            return None
        return last

    def add(self, line: Line) -> "Ledger":
        """Append a line; when this returns, it is on the disk. What fails leaves nothing behind.

        Raises UsageError where another process writes, or wrote since this ledger was read.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        file = os.open(self.path, flags, 0o644)
        try:
            if not lock(file) or read_ledger(self.folder).lines != self.lines:
                raise UsageError(f"{self.path}: another process writes to it", "try again when it is done")
            truncate_torn(self.path)
            size = os.fstat(file).st_size
            try:
                append(file, encode(line) + b"\n")
                os.fsync(file)
            except OSError:
                os.ftruncate(file, size)
                raise
        finally:
            os.close(file)
        return replace(self, lines=(*self.lines, line))

    @property
    def last(self) -> str:
        """The digest of the last line, "" where there is none."""
        return self.lines[-1].digest if self.lines else ""


def read_ledger(folder: Path) -> Ledger:
    """The ledger of a folder. Raises DataError where lines were changed or removed."""
    path = folder / LEDGER
    try:
        lines, _ = read_appended(path, Line)
    except DataError as error:
        raise DataError(error.problems, RESTORE) from None
    previous = ""
    for number, line in enumerate(lines, 1):
        if line.previous != previous:
            why = f"{path}:{number}: does not follow the line before it: lines were changed or removed"
            raise DataError([why], RESTORE)
        previous = line.digest
    return Ledger(folder, tuple(lines))


def row_digest(item: Item) -> str:
    """A digest of what annotators label: prompt and responses, in any order."""
    order = sorted(each if isinstance(each, str) else canonical(each) for each in item.responses)
    return digest("row", item.asked, order)[:LENGTH]


def labels_of(items: Iterable[Item], annotations: Iterable[Annotation]) -> Labels:
    """The labels of these items, as the ledger knows them."""
    notes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for note in annotations:
        notes[note.item_id].append((note.annotator, note.label))
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    clusters = set()
    for item in items:
        rows[row_digest(item)] += notes[item.id]
        if item.group is not None:
            clusters.add(digest("cluster", item.group)[:LENGTH])
    named = ((row, digest(sorted(labels))[:LENGTH]) for row, labels in rows.items())
    return Labels(tuple(sorted(named)), tuple(sorted(clusters)))


def protocol_digest(protocol: Protocol, annotations: Iterable[Annotation]) -> str:
    """A digest of what decides which policies pass, not of which is used, nor of secondary statistics."""
    rule = replace(protocol.rule, prefer="coverage", abstention_price=None)
    tested = replace(protocol, attempt=None, rule=rule, leave_out=None)
    return digest(to_python(tested), labels_digest(annotations, protocol.roles.get("dev", ())))


def votes_digest(judged: Judged) -> str:
    """A digest of the judges' votes, whatever they cost and however replies were worded."""
    return digest(
        sorted(
            (name, item_id, row.planned, [(v.exemplar_set, v.order, v.probs, v.failure) for v in row.votes])
            for name, rows in judged.items()
            for item_id, row in rows.items()
        )
    )


def must_hold(ledger: Ledger, certificate: Certificate, rows: Iterable[str]) -> None:
    """Raise CertificateMismatch where the ledger is not the one that the certificate was made with.

    `rows` are the ids that are to be tested: those of a certificate that knows no ledger had all of delta.
    """
    attempt = certificate.attempt
    if attempt is None and not set(certificate.roles["certify"]).isdisjoint(rows):
        raise CertificateMismatch(
            "certificate.json was made without a ledger, so its labels were tested with all of delta", FRESH
        )
    if attempt is not None and attempt.ledger not in ledger.digests:
        gone = "is gone" if not ledger.lines else "does not hold the test that certificate.json is from"
        raise CertificateMismatch(
            f"{ledger.path} {gone}: without it the number of tests of these labels is unknown", RESTORE
        )


# ── what is written ──────────────────────────────────────────────────────────────────────────────


def enter_outcome(ledger: Ledger, certificate: Certificate) -> Ledger:
    """Write down the outcome of a test and the certificate that states it, once."""
    assert certificate.attempt is not None
    test, mark = certificate.attempt.ledger, undated(certificate)
    if any((line.test, line.certificate) == (test, mark) for line in ledger.lines):
        return ledger
    return ledger.add(
        Line(previous=ledger.last, event="outcome", test=test, outcome=certificate.status, certificate=mark)
    )


def undated(certificate: Certificate) -> str:
    """The digest of a certificate without its date: that of the same test made again."""
    return replace(certificate, created="").digest


def enter_choice(ledger: Ledger, command: str, labels: Labels) -> Ledger:
    """Write down that a command reads these labels to choose by, unless that is known of all of them."""
    if labels.keys <= ledger.chosen_by.keys():
        return ledger
    return ledger.add(
        Line(
            previous=ledger.last, event="choice", rows=labels.rows, clusters=labels.clusters, command=command
        )
    )
