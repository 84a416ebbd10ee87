"""Read and write the certificate of a project folder, and the votes that it was made from."""

from pathlib import Path

from trustescalate.calibration.calibrate import CERTIFICATE_SCHEMA
from trustescalate.calibration.ledger import Ledger, read_ledger
from trustescalate.calibration.protocol import Judged
from trustescalate.calibration.verify import verify
from trustescalate.errors import CertificateMismatch, DataError, NoCertificate
from trustescalate.records import Certificate, Judgment
from trustescalate.records.bounded import read_whole
from trustescalate.records.jsonl import decode, encode, read_rows, write_atomically, write_rows

CERTIFICATE = "certificate.json"
CERTIFICATE_VOTES = "certificate.votes.jsonl"


RESTORE = "restore the file as `calibrate` wrote it, or calibrate again; nothing in it is to be edited"


def read_certificate(folder: Path) -> Certificate:
    """The certificate in place, which may say "no certificate".

    Raises NoCertificate when there is none, and CertificateMismatch where something in it does not follow
    from the rest, or from the ledger next to it.
    """
    certificate = stored_certificate(folder)
    must_follow(folder / CERTIFICATE, certificate, read_ledger(folder))
    return certificate


def must_follow(path: Path, certificate: Certificate, ledger: Ledger | None = None) -> None:
    """Raise CertificateMismatch, naming the first statement that does not follow (`verify`)."""
    problems = verify(certificate, ledger)
    if problems:
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise CertificateMismatch(f"{path}: {problems[0]}{more}", RESTORE)


def stored_certificate(folder: Path) -> Certificate:
    """The certificate as the file states it, whether or not it follows."""
    path = folder / CERTIFICATE
    try:
        certificate = decode(read_whole(path), Certificate)
    except FileNotFoundError:
        raise NoCertificate(
            f"{path}: there is no certificate yet", "`trustescalate calibrate` makes one"
        ) from None
    except ValueError as error:
        raise DataError([f"{path}: {error}"], "calibrate again") from None
    if certificate.schema != CERTIFICATE_SCHEMA:
        raise NoCertificate(f"{path}: a certificate of another schema", "calibrate again")
    return certificate


def write_certificate(folder: Path, certificate: Certificate, judged: Judged) -> None:
    """Replace the certificate and its votes, each file at once."""
    rows = (rows[item_id] for rows in judged.values() for item_id in sorted(rows))
    write_rows(folder / CERTIFICATE_VOTES, rows)
    write_atomically(folder / CERTIFICATE, encode(certificate) + b"\n")


def certificate_votes(folder: Path, certificate: Certificate, *, whole: bool = True) -> Judged | None:
    """The votes behind a certificate; None where they are gone, or another certificate's.

    `whole`: also where some are missing, or a judge has not judged every certification row.
    """
    try:
        if stored_certificate(folder) != certificate:
            return None
    except (NoCertificate, DataError):
        return None
    rows, problems = read_rows(folder / CERTIFICATE_VOTES, Judgment)
    judged: dict[str, dict[str, Judgment]] = {binding.judge: {} for binding in certificate.judges}
    for _, row in rows:
        judged.setdefault(row.judge, {})[row.item_id] = row
    if not whole:
        return judged if (folder / CERTIFICATE_VOTES).exists() else None
    wanted = set(certificate.roles["certify"])
    every = not problems and all(wanted <= judged[binding.judge].keys() for binding in certificate.judges)
    return judged if every else None
