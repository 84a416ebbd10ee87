"""Export a judge card or an in-toto Statement: about a run, or about the certificate without one."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from trustescalate.analysis.calibration_report import calibration_report
from trustescalate.analysis.injection import read_probe
from trustescalate.analysis.run_estimates import with_estimates
from trustescalate.calibration.evidence import must_rest_on_evidence
from trustescalate.calibration.files import CERTIFICATE, read_certificate
from trustescalate.cascade.run_folder import load_run, run_ids, run_path
from trustescalate.config import Config
from trustescalate.data.dataset import Dataset
from trustescalate.errors import CertificateMismatch, NotMeasurable
from trustescalate.records import Certificate, Run
from trustescalate.report.document import build
from trustescalate.report.export.in_toto import statement
from trustescalate.report.export.judge_card import render_card
from trustescalate.report.sections import Report

RUN_FILES = ("run.json", "items.jsonl", "judgments.jsonl", "decisions.jsonl")
REPORT_FILES = ("report.html", "report.json", "decision.json")
"""Files of a run folder that a statement names where they are there."""


class Subject(NamedTuple):
    """What a document is about; `run` is None for a certificate without a run."""

    folder: Path
    certificate: Certificate
    report: Report
    run: Run | None


def document_subject(config: Config, data: Dataset, run_id: str | None) -> Subject:
    """Load a run, by default the latest, or the certificate where there is no run, with its report.

    Raises NoCertificate without either, and the errors of `load_run`.
    """
    if run_id is None and not run_ids(config.folder):
        certificate = read_certificate(config.folder)
        must_rest_on_evidence(config, data, certificate)
        report = calibration_report(config, data, certificate, None).report
        return Subject(config.folder, certificate, report, None)
    run = load_run(config.folder, data, run_id)
    certificate = run.header.certificate
    must_rest_on_evidence(config, data, certificate)
    run = with_estimates(config, run, data)
    return Subject(config.folder, certificate, build(run, read_probe(config.folder)), run)


def judge_card(subject: Subject) -> bytes:
    """Write the judge card, as Markdown."""
    return render_card(subject.report).encode()


def in_toto(subject: Subject) -> bytes:
    """Write the statement, as JSON.

    Raises NotMeasurable where nothing is certified, and CertificateMismatch where certificate.json is not
    the certificate of the run.
    """
    certificate, run = subject.certificate, subject.run
    if certificate.status == "none" or (run is not None and run.uncertified):
        reason = certificate.reason.rstrip(".")
        raise NotMeasurable(
            f"nothing is certified that a statement could be about{': ' * bool(reason)}{reason}",
            "calibrate, then run; a judge card needs no certificate: --as judge_card",
        )
    if read_certificate(subject.folder) != certificate:
        raise CertificateMismatch(
            f"{subject.folder / CERTIFICATE} is not the certificate that the run rests on",
            "restore it, or name a run of the present certificate",
        )
    paths = [subject.folder / CERTIFICATE]
    if run is not None:
        home = run_path(subject.folder, run.header.id)
        paths += [home / name for name in RUN_FILES]
        paths += [home / name for name in REPORT_FILES if (home / name).is_file()]
    digests = {path.relative_to(subject.folder).as_posix(): _sha256(path) for path in paths}
    about = statement(digests, certificate, subject.report, run)
    return json.dumps(about, indent=2, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


DOCUMENTS: Mapping[str, Callable[[Subject], bytes]] = {"in_toto": in_toto, "judge_card": judge_card}
"""The formats that are about a run or a certificate as a whole. A new one is a function and a row here."""
