"""Read and write the certificate of a project folder, and the votes that it was made from."""

from pathlib import Path

from trustescalate.calibration.calibrate import CERTIFICATE_SCHEMA
from trustescalate.calibration.protocol import Judged
from trustescalate.errors import DataError, NoCertificate
from trustescalate.records import Certificate, Judgment
from trustescalate.records.bounded import read_whole
from trustescalate.records.jsonl import decode, encode, read_rows, write_atomically, write_rows

CERTIFICATE = "certificate.json"
CERTIFICATE_VOTES = "certificate.votes.jsonl"


def read_certificate(folder: Path) -> Certificate:
    """The certificate in place, which may say "no certificate". Raises NoCertificate when there is none."""
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


def certificate_votes(folder: Path, certificate: Certificate) -> Judged | None:
    """The votes on the certification rows; None where they are gone, or another certificate's."""
    try:
        if read_certificate(folder) != certificate:
            return None
    except (NoCertificate, DataError):
        return None
    rows, problems = read_rows(folder / CERTIFICATE_VOTES, Judgment)
    judged: dict[str, dict[str, Judgment]] = {binding.judge: {} for binding in certificate.judges}
    for _, row in rows:
        judged.setdefault(row.judge, {})[row.item_id] = row
    wanted = set(certificate.roles["certify"])
    whole = not problems and all(wanted <= judged[binding.judge].keys() for binding in certificate.judges)
    return judged if whole else None
