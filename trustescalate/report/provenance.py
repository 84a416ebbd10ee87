"""Report the provenance of a certificate and a run: versions, seeds, digests and configuration."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trustescalate.calibration.served_models import compare_served, listed
from trustescalate.calibration.uncertified import rests_on_tests
from trustescalate.records import Certificate, JudgeBinding, Run
from trustescalate.records.judge_counts import count_votes
from trustescalate.report.figures import missing, words
from trustescalate.report.sections import Block, Column, Row, Section, Table, pairs_table


def provenance_section(certificate: Certificate, run: Run | None) -> Section:
    """Report everything needed to reproduce the same figures."""
    seed = str(certificate.seed)
    lines = [("Certificate", "none: the judges were not calibrated for this run"), ("Seed", seed)]
    terms: list[tuple[str, str]] = []
    if rests_on_tests(certificate):
        lines = [
            ("Certificate created", certificate.created),
            ("Digest of the certificate (SHA-256)", certificate.digest),
            ("Digest of the labelled data", certificate.data_digest),
            ("Seed", seed),
        ]
        terms = [("Certificate created by version", certificate.version), ("Protocol", certificate.protocol)]
    blocks: tuple[Block, ...] = ()
    lead = f"Certificate of {certificate.created}, made by version {certificate.version} with seed {seed}: "
    lead += "`trustescalate calibrate` repeats it."
    if run is not None:
        header = run.header
        lead = f"To repeat this run: {header.command}"
        lines = [
            ("Run", header.id),
            ("Status", header.status),
            ("Started", header.created),
            ("Digest of the items", header.items_digest),
            *lines,
        ]
        terms += [
            *_addresses(header.config),
            *_listed_prices(header.config),
            *((f"Version of {name}", version) for name, version in sorted(header.versions.items())),
        ]
        config = json.dumps(header.config, indent=2, ensure_ascii=False, sort_keys=True, default=str)
        blocks = (Block("Configuration", config),)
    facts = _facts_table("Digests and seed", lines)
    others = (_facts_table("Versions and protocol", terms),) if terms else ()
    bindings = tuple(
        Row((words(one.judge), words(_channel(one, run)), words(one.fingerprint)))
        for one in certificate.judges
    )
    columns = (Column("Judge"), Column("Read from"), Column("Fingerprint"))
    about = "certificate" if run is None or not run.uncertified else "run"
    bound = Table(f"Judges that the {about} is bound to", columns, bindings)
    served = _served_table(certificate, run)
    tables = (facts, *others, bound, *served)
    return Section("provenance", "Provenance", (lead,), tables=tables, blocks=blocks)


def _facts_table(caption: str, lines: Iterable[tuple[str, str]]) -> Table:
    return pairs_table(caption, ("What", "Value"), ((name, words(value)) for name, value in lines))


def _served_table(certificate: Certificate, run: Run | None) -> tuple[Table, ...]:
    """The models that answered, by their own names, at calibration and in the run."""
    served = compare_served(certificate, () if run is None else run.judgments)
    none = "no run yet" if run is None else "it has no vote in the run"
    if not served:
        return ()
    rows = tuple(
        Row((
            words(one.judge),
            words(listed(one.before)) if one.before else missing("no reply named its model"),
            words(one.counts) if one.now else missing(none),
        ))
        for one in served
    )  # fmt: skip
    columns = (Column("Judge"), Column("At calibration"), Column("In this run"))
    return (Table("Served models and system fingerprints", columns, rows),)


def _channel(seal: JudgeBinding, run: Run | None) -> str:
    """What the votes of a judge were read from; in an uncertified run its own votes tell."""
    if run is None or not run.uncertified:
        return seal.channel
    return count_votes(run.judgments).of(seal.judge).channel or seal.channel


def _addresses(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The judges that answered at another address than the certified one, by the configuration's word."""
    for judge in config.get("judges", ()):
        if judge.get("same_model_as") is not None:
            here, certified = (_listed(judge.get(key)) for key in ("base_url", "same_model_as"))
            yield f"Address of {judge['name']}", f"{here}, stated to be the model at {certified}"


def _listed(addresses: str | Sequence[str] | None) -> str:
    return f"{addresses}" if addresses is None or isinstance(addresses, str) else " and ".join(addresses)


def _listed_prices(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The prices that are not the user's own, as the run recorded them."""
    for judge in config.get("judges", ()):
        price = dict(judge.get("price") or {})
        if source := price.pop("source", None):
            amounts = ", ".join(f"{what} {usd:g}" for what, usd in price.items() if usd)
            yield f"Price of {judge['name']}", f"USD per million tokens by {source}: {amounts or 'none'}"
