"""Hold a certificate against the votes and labels that it was made from, where these are there.

The votes stand in certificate.votes.jsonl, the labels in [data]. Their digest must be that of the
certificate. Then the same calibration is made again, without a model call, and must give the same one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from itertools import groupby, product

from trustescalate import __version__
from trustescalate.calibration.alignment import data_digest
from trustescalate.calibration.calibrate import calibrate
from trustescalate.calibration.files import (
    CERTIFICATE,
    CERTIFICATE_VOTES,
    RESTORE,
    certificate_votes,
    stored_certificate,
)
from trustescalate.calibration.ledger import LEDGER, labels_of, read_ledger, row_digest, votes_digest
from trustescalate.calibration.prepare import build_protocol
from trustescalate.calibration.protocol import Clustering, Judged, Protocol
from trustescalate.calibration.region import applied_region
from trustescalate.calibration.retest import near, shown
from trustescalate.calibration.selection import Selection
from trustescalate.config import Config
from trustescalate.data.clusters import clusters
from trustescalate.data.dataset import Dataset
from trustescalate.errors import CertificateMismatch, DataError, NoCertificate, TrustEscalateError
from trustescalate.records import Certificate
from trustescalate.records.item_columns import items_of

NOT_COMPARED = ("created", "attempt", "overall")
"""What a calibration made again does not know, or other items may change; the ledger holds its digest."""


def must_rest_on_evidence(config: Config, data: Dataset, certificate: Certificate) -> None:
    """Raise CertificateMismatch where the votes and labels in place give another certificate.

    Without the votes, or with a part of them, only labels are compared, with digests in the ledger. A
    certificate of another version, and one whose protocol cannot be made of the configuration and the data
    of now, stands by its own figures.
    """
    must_keep_texts(config, data, certificate)
    # A judge of a batch need not have judged every row.
    judged = certificate_votes(config.folder, certificate, whole=certificate.batch is None)
    if judged is None:
        _must_be_the_labels(config, data, certificate)
        return
    _must_be_the_data(config, data, certificate, judged)
    protocol = _protocol_of(config, data, certificate) if certificate.version == __version__ else None
    if protocol is None:
        return
    again = calibrate(
        protocol,
        data.annotations,
        judged,
        created="",
        batch_digest="" if certificate.batch is None else certificate.batch.digest,
    )
    inputs = {seal.judge: seal.inputs for seal in certificate.judges}
    again = replace(again, judges=tuple(replace(seal, inputs=inputs[seal.judge]) for seal in again.judges))
    for name in (field.name for field in fields(Certificate)):
        if name not in NOT_COMPARED:
            for problem in _differences(name, getattr(certificate, name), getattr(again, name)):
                path = config.folder / CERTIFICATE
                raise CertificateMismatch(f"{path}: {problem}, which its votes and labels give", RESTORE)


def must_keep_texts(config: Config, data: Dataset, certificate: Certificate | None = None) -> None:
    """Raise DataError where a labelled item has other texts than when it was tested: its labels are of those.

    The ledger holds digests of the texts that were tested for a `certificate`, and for the one in place.
    """
    ledger = read_ledger(config.folder)
    known = [] if certificate is None else [certificate]
    with suppress(NoCertificate, DataError):
        known.append(stored_certificate(config.folder))
    for each in known:
        line = None if each.attempt is None else ledger.digests.get(each.attempt.ledger)
        if line is None:
            continue
        rows = {row for row, _ in line.rows}
        # The digest in an annotation was compared when it was read: these texts are those that were labelled.
        unknown = {note.item_id for note in data.annotations if note.content is None}
        tested = unknown & {*each.roles["certify"], *each.roles.get("region", ())}
        changed = [item.id for item in items_of(data.items, tested) if row_digest(item) not in rows]
        if changed:
            raise DataError(
                [
                    f"{config.path(config.data.items)}: {len(changed):,} items ({changed[0]!r} first) have "
                    "labels that were tested with other texts, and the labels are of those"
                ],
                "restore the texts; give items with new texts ids of their own, and labels of their own",
            )


def evidence_of(config: Config, data: Dataset, certificate: Certificate) -> tuple[Protocol, Judged] | None:
    """The protocol and votes of a certificate; None where these are not in place any more."""
    judged = certificate_votes(config.folder, certificate, whole=certificate.batch is None)
    if judged is None or certificate.version != __version__:
        return None
    protocol = _protocol_of(config, data, certificate)
    return None if protocol is None else (protocol, judged)


def _must_be_the_labels(config: Config, data: Dataset, certificate: Certificate) -> None:
    """Without votes the ledger alone tells of the labels. An earlier certificate had labels of its time."""
    attempt, tested = (
        certificate.attempt,
        {*certificate.roles["certify"], *certificate.roles.get("region", ())},
    )
    try:
        in_place = stored_certificate(config.folder) == certificate
    except (NoCertificate, DataError):
        return
    line = None if attempt is None or not in_place else read_ledger(config.folder).digests.get(attempt.ledger)
    if line is None:
        return
    if labels_of(items_of(data.items, tested), data.annotations).rows != line.rows:
        raise CertificateMismatch(
            f"{config.path(config.data.annotations)}: not the labels of this certificate, or its rows were "
            f"changed: {LEDGER} holds digests of others",
            "restore the rows and labels as they were, or calibrate again",
        )


def _must_be_the_data(config: Config, data: Dataset, certificate: Certificate, judged: Judged) -> None:
    tested = {*certificate.roles["certify"], *certificate.roles.get("region", ())}
    notes = [note for note in data.annotations if note.item_id in tested]
    if data_digest(notes, judged) == certificate.data_digest:
        return
    attempt = certificate.attempt
    line = None if attempt is None else read_ledger(config.folder).digests.get(attempt.ledger)
    votes = config.folder / CERTIFICATE_VOTES
    what = f"{votes}: not the votes of this certificate"
    if line is None:
        what = f"{what}, or the labels of certification rows were changed"
    elif line.votes == votes_digest(judged):
        labels = config.path(config.data.annotations)
        what = f"{labels}: not the labels of this certificate, or {votes} was edited"
    raise CertificateMismatch(
        f"{what}: they do not give its data_digest",
        "restore votes and labels as they were, or calibrate again: that test has its own share of delta",
    )


def _protocol_of(config: Config, data: Dataset, certificate: Certificate) -> Protocol | None:
    """The protocol whose digest the certificate holds; None where it cannot be made of what is there now."""
    attempt, bound = certificate.attempt, [(seal.judge, seal.fingerprint) for seal in certificate.judges]
    try:
        region = None if certificate.region is None else applied_region(config, data)
        selected = Selection(
            certificate.roles,
            _clustering(data, certificate),
            certificate.weighting,
            certificate.interim,
            region=None if region is None else region.rule,
        )
        base = build_protocol(config, data, selected, bound, grouped=False)
    except (TrustEscalateError, LookupError):
        return None
    base = replace(
        base,
        version=certificate.version,
        attempt=None if attempt is None else replace(attempt, ledger=""),
    )
    for grouped, drawn_from in product((False, True), {None, certificate.clusters}):
        protocol = replace(base, grouped=grouped, drawn_from=drawn_from)
        if protocol.digest == certificate.protocol:
            return protocol
    return None


def _clustering(data: Dataset, certificate: Certificate) -> Clustering | None:
    drawn = certificate.clusters
    if certificate.method != "clusters" or drawn is None or drawn.largest is None:
        return None
    place = {item.id: at for at, rows in enumerate(clusters(data.labelled)) for item in rows}
    rows = groupby(certificate.roles["certify"], place.__getitem__)
    return Clustering(tuple(tuple(ids) for _, ids in rows), drawn.largest)


def _differences(place: str, stated: object, computed: object) -> Iterator[str]:
    """The leaves in which two records differ, in floats by more than libraries do."""
    if is_dataclass(stated) and type(stated) is type(computed):
        for field in fields(stated):
            inner = getattr(stated, field.name), getattr(computed, field.name)
            yield from _differences(f"{place}.{field.name}", *inner)
    elif isinstance(stated, Mapping) and isinstance(computed, Mapping) and stated.keys() == computed.keys():
        for key in stated:
            yield from _differences(f"{place}.{key}", stated[key], computed[key])
    elif _are_rows(stated) and _are_rows(computed) and len(stated) == len(computed):  # type: ignore[arg-type]
        for at, inner in enumerate(zip(stated, computed, strict=True)):  # type: ignore[call-overload]
            yield from _differences(f"{place}.{at}", *inner)
    elif not near(stated, computed):
        yield f"{place}: {shown(stated)} is not {shown(computed)}"


def _are_rows(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
