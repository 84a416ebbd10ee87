"""Keep a certificate whose test was repeated as it was, or only because failed votes were asked again."""

from collections.abc import Iterable
from pathlib import Path

from trustescalate.calibration.files import certificate_votes, read_certificate, stored_certificate
from trustescalate.calibration.ledger import Ledger, undated
from trustescalate.calibration.protocol import Judged
from trustescalate.errors import CertificateMismatch, DataError, NoCertificate
from trustescalate.records import Certificate, Vote

STANDS = (
    "failed votes were asked again, and this further test of the same labels, with its smaller share of "
    "delta, passed nothing: the certificate of test {number} stands"
)


def still_standing(folder: Path, ledger: Ledger, renewed: Certificate, judged: Judged) -> Certificate | None:
    """Return the certificate in place if a renewal that certified nothing says nothing against it.

    So it is if both tests have one protocol and the same rows, and no vote differs but those that had failed:
    then the first test holds at its share of delta, whatever the second one spent of the rest.
    """
    if renewed.status != "none":
        return None
    try:
        before = read_certificate(folder)
        votes = certificate_votes(folder, before)
    except (NoCertificate, DataError, CertificateMismatch):
        return None
    if before.status != "certified" or votes is None or before.attempt is None or renewed.attempt is None:
        return None
    first, second = (ledger.digests.get(one.attempt.ledger) for one in (before, renewed) if one.attempt)
    if first is None or second is None or (first.protocol, first.rows) != (second.protocol, second.rows):
        return None
    return before if _only_failed_differ(votes, judged) else None


def undisturbed(folder: Path, renewed: Certificate) -> Certificate:
    """The certificate in place, with its date, if the same test gave it again; else the renewed one."""
    try:
        before = stored_certificate(folder)
    except (NoCertificate, DataError):
        return renewed
    return before if undated(before) == undated(renewed) else renewed


def _only_failed_differ(before: Judged, now: Judged) -> bool:
    same_rows = {name: rows.keys() for name, rows in before.items()} == {
        name: rows.keys() for name, rows in now.items()
    }
    return same_rows and all(
        _agree(row.votes, now[name][item_id].votes)
        for name, rows in before.items()
        for item_id, row in rows.items()
    )


def _agree(before: Iterable[Vote], now: Iterable[Vote]) -> bool:
    def by_question(votes: Iterable[Vote]) -> list[Vote]:
        return sorted(votes, key=lambda vote: (vote.exemplar_set, vote.order))

    pairs = list(zip(by_question(before), by_question(now), strict=False))
    return all(old.failure is not None or old.probs == new.probs for old, new in pairs)
