"""Find which test of its labels is due and what it may spend of delta; interim analyses among them.

The ledger holds earlier tests. A test outside a plan spends the share of its number; an interim analysis
spends the share that was planned, and nothing may be changed between two of them.
"""

from collections.abc import Sequence
from dataclasses import replace

from trustescalate.calibration.ledger import (
    FRESH,
    LEDGER,
    Interim,
    Labels,
    Ledger,
    Line,
    protocol_digest,
    votes_digest,
)
from trustescalate.calibration.protocol import Judged, Protocol
from trustescalate.errors import CertificateMismatch, NotMeasurable
from trustescalate.records import Annotation, Attempt, InterimAnalysis
from trustescalate.records.jsonl import digest, to_python
from trustescalate.stats.sequential import attempt_share

ANEW = "undo the change, or start again with rows that were never tested in place of these"
SUM = 1e-9
"""Tolerance of the sum of shares, which are floats."""


def first_share(attempts: int | None) -> float:
    """The share of delta that the first test of labels may spend.

    >>> first_share(None), first_share(1)
    (0.9, 1.0)
    """
    return 1.0 if attempts == 1 else attempt_share(1)


def due_attempt(
    ledger: Ledger,
    protocol: Protocol,
    labels: Labels,
    annotations: Sequence[Annotation],
    attempts: int | None,
    votes: str | None = None,
) -> tuple[Attempt, bool]:
    """The number and share of this test of its labels, and whether it was made before.

    `votes` is None until they are known.

    Raises NotMeasurable where no share of delta is left, or labels were read to choose by, and
    CertificateMismatch where it does not go on with a plan of interim analyses that was begun.
    """
    known = ledger.same(protocol_digest(protocol, annotations), labels, votes)
    if known is not None:
        return Attempt(known.number, known.share, known.digest), True
    before = ledger.before(labels)
    if protocol.interim is not None:
        if not before:
            _must_be_unread(ledger, labels)
        return _due_interim(before, protocol, protocol.interim, labels, votes)
    planned = [line for line in before if line.interim is not None]
    if planned:
        raise _protocol_changed(planned[-1])
    _must_be_unread(ledger, labels)
    number = 1 + max((line.number for line in before), default=0)
    if attempts is not None and number > attempts:
        raise NotMeasurable(
            f"these labels were tested before, and [guarantee] attempts = {attempts} gives all of delta to "
            "one test",
            FRESH,
        )
    share = first_share(attempts) if number == 1 else attempt_share(number)
    if ledger.spent(labels) + share > 1 + SUM:
        raise NotMeasurable(
            "an earlier test of these labels had all of delta, and nothing is left for another", FRESH
        )
    return Attempt(number, share), False


def _due_interim(
    before: Sequence[Line], protocol: Protocol, due: InterimAnalysis, labels: Labels, votes: str | None
) -> tuple[Attempt, bool]:
    """The interim analysis that is due, of a plan that began with labels that were never tested."""
    if not before:
        return Attempt(1, due.share), False
    last, interim = before[-1], before[-1].interim
    if any(line.interim is None for line in before):
        raise CertificateMismatch(
            "the interim analyses were planned after labels of these rows were tested", ANEW
        )
    assert interim is not None
    if without_rows(protocol) != interim.decided:
        raise _protocol_changed(last)
    if not set(interim.rows) <= set(protocol.roles["certify"]):
        raise CertificateMismatch(
            f"{LEDGER}: rows of interim analysis {interim.number} are gone from the data", ANEW
        )
    if not set(last.rows) <= set(labels.rows):
        raise CertificateMismatch(
            f"{LEDGER}: texts or labels of rows in interim analysis {interim.number} were changed since "
            "it was made",
            ANEW,
        )
    if interim.number < due.number:
        return Attempt(last.number + 1, due.share), False
    if votes not in (None, last.votes):
        raise CertificateMismatch(
            f"{LEDGER}: the judges' votes on rows of interim analysis {due.number} are not those that it was "
            "made with",
            "restore the votes (the cache, or the votes file), or label enough rows for the next interim "
            "analysis",
        )
    return Attempt(last.number, last.share, last.digest), True


def _protocol_changed(line: Line) -> CertificateMismatch:
    assert line.interim is not None
    return CertificateMismatch(
        f"{LEDGER}: the protocol was changed after interim analysis {line.interim.number} (the guarantee, "
        "the judges, their examples, the path, the interim analyses or the seed)",
        ANEW,
    )


def _must_be_unread(ledger: Ledger, labels: Labels) -> None:
    commands = sorted({ledger.chosen_by[key] for key in labels.keys & ledger.chosen_by.keys()})
    if commands:
        raise NotMeasurable(
            f"{', '.join(f'`{command}`' for command in commands)} read labels of these rows to choose by: "
            "what was chosen must not be tested on them",
            FRESH,
        )


def enter_test(
    ledger: Ledger,
    protocol: Protocol,
    labels: Labels,
    annotations: Sequence[Annotation],
    attempts: int | None,
    judged: Judged,
) -> tuple[Ledger, Attempt]:
    """Write a test down before its outcome is known. The same test again has a line, and spends nothing.

    Raises as `due_attempt` and `Ledger.add` do.
    """
    votes = votes_digest(judged)
    attempt, repeated = due_attempt(ledger, protocol, labels, annotations, attempts, votes)
    if repeated:
        return ledger, attempt
    line = Line(
        previous=ledger.last,
        event="test",
        number=attempt.number,
        share=attempt.share,
        protocol=protocol_digest(protocol, annotations),
        votes=votes,
        rows=labels.rows,
        clusters=labels.clusters,
        interim=_interim_entry(ledger.before(labels), protocol),
    )
    return ledger.add(line), replace(attempt, ledger=line.digest)


def _interim_entry(before: Sequence[Line], protocol: Protocol) -> Interim | None:
    if protocol.interim is None:
        return None
    first = before[-1].interim if before else None
    roles = (
        {role: ids for role, ids in protocol.roles.items() if role in FIXED} if first is None else first.roles
    )
    return Interim(protocol.interim.number, without_rows(protocol), roles, protocol.roles["certify"])


# ── planned interim analyses ─────────────────────────────────────────────────────────────────────

FIXED = ("exemplars", "dev", "holdout", "pilot")
"""Roles that stay as they are from one interim analysis to the next."""


def due(
    sizes: Sequence[int], shares: Sequence[float], rows: Sequence[str], past: Interim | None
) -> tuple[InterimAnalysis | None, tuple[str, ...]]:
    """The interim analysis that is due, and its rows; `rows` could be tested, in the order of their lots.

    It is the largest planned one that there are rows for, later than those made; without rows for another,
    the last one again, on the rows that it had. None where there are too few for the first.

    >>> due((2, 4), (0.4, 0.6), ["a", "b", "c"], None)
    (InterimAnalysis(number=1, sizes=(2, 4), shares=(0.4, 0.6)), ('a', 'b'))
    """
    there = set(rows)
    before = () if past is None else tuple(item_id for item_id in past.rows if item_id in there)
    known = set(before)
    order = (*before, *(item_id for item_id in rows if item_id not in known))
    later = [place for place in range(len(sizes)) if past is None or place >= past.number]
    ready = [place for place in later if sizes[place] <= len(order)]
    if ready:
        return InterimAnalysis(ready[-1] + 1, tuple(sizes), tuple(shares)), order[: sizes[ready[-1]]]
    if past is None:
        return None, ()
    return InterimAnalysis(past.number, tuple(sizes), tuple(shares)), before


def without_rows(protocol: Protocol) -> str:
    """A digest of what must not change between interim analyses: all but rows and what follows from them."""
    interim, weighting = protocol.interim, protocol.weighting
    return digest(
        to_python(
            replace(
                protocol,
                roles={},
                grouped=False,
                version="",
                attempt=None,
                clusters=None,
                drawn_from=None,
                interim=None if interim is None else replace(interim, number=1),
                weighting=None if weighting is None else replace(weighting, offered=0, kept=0),
            )
        )
    )
