"""Looks that were planned before the first label: which is due, and which rows it takes.

The ledger beside the certificate remembers every look that was made: its rows, what people said of them, and
what had been decided. A look is repeated on the same rows only, and nothing can be changed between two. The
test itself is `testing`, with the look's share of delta.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from trustescalate.errors import CertificateMismatch, DataError
from trustescalate.jsonl import decode, digest, encode, to_python, write_atomically
from trustescalate.protocol import Protocol, labels_digest
from trustescalate.types import STRICT, Annotation, Json, Look

LEDGER = "looks.json"
LEDGER_SCHEMA = 1
ANEW = (
    "undo the change; or, to begin anew, move looks.json away and bring rows that were never tested: labels "
    "that were looked at must not be tested again under another protocol"
)


@dataclass(frozen=True, slots=True)
class Made:
    """A look that was made: which of those planned, on which rows, and a digest of their labels."""

    number: int
    rows: tuple[str, ...]
    labels: str
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Ledger:
    """looks.json: a digest of all that was decided but rows, the roles that stay, the looks, oldest first."""

    schema: int
    protocol: str
    roles: Mapping[str, tuple[str, ...]]
    looks: tuple[Made, ...]
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


def read_ledger(folder: Path) -> Ledger | None:
    """The looks that were made, None where none was. Raises DataError for a file that cannot be read."""
    path = folder / LEDGER
    try:
        ledger = decode(path.read_bytes(), Ledger)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(
            [f"{path}: {error}"], "restore the file; without it looks cannot be counted"
        ) from None
    if ledger.schema != LEDGER_SCHEMA or not ledger.looks:
        raise DataError([f"{path}: not a ledger that this version writes"], "restore the file")
    return ledger


def due(
    sizes: Sequence[int], shares: Sequence[float], rows: Sequence[str], past: Ledger | None
) -> tuple[Look | None, tuple[str, ...]]:
    """The look that is due, and its rows, of all `rows` that could be tested, in the order of their lots.

    It is the largest planned one that there are rows for, later than those made; without rows for another,
    the last one again, on the rows that it had. None where there are too few for the first.

    >>> due((2, 4), (0.4, 0.6), ["a", "b", "c"], None)
    (Look(number=1, sizes=(2, 4), shares=(0.4, 0.6)), ('a', 'b'))
    """
    made = None if past is None else past.looks[-1]
    there = set(rows)
    before = () if made is None else tuple(item_id for item_id in made.rows if item_id in there)
    known = set(before)
    order = (*before, *(item_id for item_id in rows if item_id not in known))
    later = [place for place in range(len(sizes)) if made is None or place >= made.number]
    ready = [place for place in later if sizes[place] <= len(order)]
    if ready:
        return Look(ready[-1] + 1, tuple(sizes), tuple(shares)), order[: sizes[ready[-1]]]
    if made is None:
        return None, ()
    return Look(made.number, tuple(sizes), tuple(shares)), before


def without_rows(protocol: Protocol) -> str:
    """A digest of what must not change from look to look: everything but rows and what follows from them."""
    look, weighting = protocol.look, protocol.weighting
    return digest(
        to_python(
            replace(
                protocol,
                roles={},
                grouped=False,
                version="",
                clusters=None,
                drawn_from=None,
                look=None if look is None else replace(look, number=1),
                weighting=None if weighting is None else replace(weighting, offered=0, kept=0),
            )
        )
    )


def must_follow(ledger: Ledger, protocol: Protocol, annotations: Iterable[Annotation]) -> None:
    """Raise CertificateMismatch unless a calibration goes on with the looks that were made.

    The protocol must be the same, all rows that were looked at must be there, and be labelled as they were.
    """
    last = ledger.looks[-1]
    if without_rows(protocol) != ledger.protocol:
        raise CertificateMismatch(
            f"{LEDGER}: the protocol was changed after look {last.number} (the promise, the judges, their "
            "examples, the path, the looks or the seed)",
            ANEW,
        )
    if not set(last.rows) <= set(protocol.roles["certify"]):
        raise CertificateMismatch(f"{LEDGER}: rows of look {last.number} are gone from the data", ANEW)
    if labels_digest(annotations, last.rows) != last.labels:
        raise CertificateMismatch(
            f"{LEDGER}: labels of rows in look {last.number} were changed since it was made", ANEW
        )


def record(
    folder: Path, ledger: Ledger | None, protocol: Protocol, annotations: Iterable[Annotation]
) -> None:
    """Write a look down, before its outcome is known. A look that is repeated changes nothing."""
    look, rows = protocol.look, protocol.roles["certify"]
    if look is None or (ledger is not None and ledger.looks[-1].number == look.number):
        return
    made = Made(look.number, rows, labels_digest(annotations, rows))
    if ledger is None:
        roles = {
            role: ids
            for role, ids in protocol.roles.items()
            if role in ("exemplars", "dev", "holdout", "pilot")
        }
        ledger = Ledger(LEDGER_SCHEMA, without_rows(protocol), roles, (made,))
    else:
        ledger = replace(ledger, looks=(*ledger.looks, made))
    write_atomically(folder / LEDGER, encode(ledger) + b"\n")
