"""Write an in-toto Statement about a certificate, and about a run that it covers.

Source: https://github.com/in-toto/attestation, Statement v1. The statement is not signed.
"""

from collections.abc import Mapping
from typing import Any

from trustescalate.records import Certificate, PolicyTest, Run
from trustescalate.records.jsonl import to_python
from trustescalate.report import run_figures
from trustescalate.report.certificate_figures import thresholds, used_tests
from trustescalate.report.sections import Report

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://github.com/trustescalate/trustescalate/certificate/v1"
"""The type of our predicate; its fields only ever grow under this version."""


def statement(
    digests: Mapping[str, str], certificate: Certificate, report: Report, run: Run | None = None
) -> dict[str, Any]:
    """Make the statement: `digests` maps the name of each subject to the SHA-256 of its content, as hex.

    The predicate has the terms of the certificate, the counts of the tests that it rests on, and the counts
    of the run.
    """
    predicate: dict[str, Any] = {"certificate": _terms(certificate, report)}
    if run is not None:
        predicate["run"] = {
            "id": run.header.id,
            "status": run.header.status,
            "created": run.header.created,
            "itemsDigest": run.header.items_digest,
            "items": run.header.items,
            "decided": len(run.decisions),
            "released": run_figures.released(run),
            "releasedWithHumanLabels": run_figures.labelled(run),
            "abstained": run_figures.abstained(run),
            **({"claim": report.run_claim} if report.run_claim else {}),
        }
    subject = [{"name": name, "digest": {"sha256": value}} for name, value in digests.items()]
    return {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": predicate}


def _terms(certificate: Certificate, report: Report) -> dict[str, Any]:
    groups = [
        {"value": group.value, "alpha": group.alpha, "rows": group.n, "certified": group.chosen is not None}
        for group in certificate.groups
    ]
    return {
        "id": certificate.id,
        "digest": certificate.digest,
        "status": certificate.status,
        "created": certificate.created,
        "version": certificate.version,
        "claim": certificate.claim,
        "sentence": report.claim,
        "alpha": certificate.alpha,
        "delta": certificate.delta,
        "assumptions": list(report.assumptions),
        "task": to_python(certificate.task),
        "labelPolicy": certificate.label_policy,
        "dataDigest": certificate.data_digest,
        "seed": certificate.seed,
        "rows": certificate.n,
        "coverageLower": certificate.coverage_lower,
        "judges": [
            {"name": each.judge, "fingerprint": each.fingerprint, "threshold": threshold}
            for each, threshold in zip(certificate.judges, thresholds(certificate).values(), strict=True)
        ],
        "tests": list(map(_counts, used_tests(certificate))),
        **({"groupBy": certificate.group_by, "groups": groups} if certificate.group_by else {}),
    }


def _counts(test: PolicyTest) -> dict[str, Any]:
    return {
        "thresholds": list(test.thresholds),
        "accepted": test.accepted,
        "errors": test.errors,
        "pValue": test.p_value,
        "level": test.level,
    }
