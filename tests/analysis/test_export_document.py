"""A judge card and an in-toto Statement: about a run, or about the certificate alone."""

import asyncio
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import ROOT
from tests.support.factory import HOSTILE
from tests.support.hostile_run import hostile_run
from trustescalate.analysis.export_document import DOCUMENTS
from trustescalate.analysis.export_run import Exported, export_run
from trustescalate.errors import CertificateMismatch, NoCertificate, NotMeasurable, UsageError
from trustescalate.project import Project
from trustescalate.report.document import build
from trustescalate.report.export.in_toto import PREDICATE
from trustescalate.report.export.judge_card import SECTIONS, render_card
from trustescalate.report.markdown import escape


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("documents") / "project"
    shutil.copytree(ROOT / "examples" / "pass-fail", folder)
    opened = Project.open(folder / "trustescalate.toml")
    with pytest.raises(NoCertificate):
        export_run(opened.config, None, "in_toto", folder / "never")
    asyncio.run(opened.calibrate())
    for name in DOCUMENTS:
        export_run(opened.config, None, name, folder / f"certificate.{name}")
    asyncio.run(opened.run())
    opened.report()
    return opened


def write(project: Project, name: str, to: Path, **more: Any) -> tuple[Exported, str]:
    exported = export_run(project.config, None, name, to, **more)
    return exported, to.read_text("utf-8")


def test_a_statement_names_each_file_by_its_digest(project: Project, tmp_path: Path) -> None:
    exported, text = write(project, "in_toto", tmp_path / "statement.json")
    written, folder = json.loads(text), project.config.folder
    assert (written["_type"], written["predicateType"]) == ("https://in-toto.io/Statement/v1", PREDICATE)
    names = [subject["name"] for subject in written["subject"]]
    assert names[0] == "certificate.json"
    assert {Path(name).name for name in names} == {
        *("certificate.json", "run.json", "items.jsonl", "judgments.jsonl", "decisions.jsonl"),
        *("report.html", "report.json"),
    }
    for subject in written["subject"]:
        assert subject["digest"] == {
            "sha256": hashlib.sha256((folder / subject["name"]).read_bytes()).hexdigest()
        }
    run, certificate = project.load_run(), project.certificate()
    terms, counts = written["predicate"]["certificate"], written["predicate"]["run"]
    assert (terms["id"], terms["alpha"], terms["delta"]) == (certificate.id, 0.1, 0.1)
    assert [judge["threshold"] for judge in terms["judges"]] == list(certificate.thresholds or ())
    assert terms["sentence"] == build(run).claim
    assert (counts["released"], counts["abstained"], counts["items"]) == (95, 5, 100)
    assert (exported.run, exported.rows) == (run.header.id, None)


def test_without_a_run_both_are_about_the_certificate(project: Project) -> None:
    folder = project.config.folder
    written = json.loads((folder / "certificate.in_toto").read_text("utf-8"))
    assert [subject["name"] for subject in written["subject"]] == ["certificate.json"]
    assert "run" not in written["predicate"]
    card = (folder / "certificate.judge_card").read_text("utf-8")
    assert "### Judges: calibration of scores" in card
    assert "### Cascade" not in card


def test_a_card_states_the_claim_and_no_figure_that_the_report_does_not_have(
    project: Project, tmp_path: Path
) -> None:
    _, card = write(project, "judge_card", tmp_path / "card.md")
    report, _ = project.report()
    assert escape(report.page().claims[0]) in card
    known = repr(report) + repr([section for section in report.sections if section.slug in SECTIONS])
    known += " ".join(map(repr, (report.claim, report.run_claim, report.facts, report.key_figures)))
    numbers = re.compile(r"\d+(?:[.,]\d+)*")
    assert set(numbers.findall(re.sub("&#\\d+;", "", card))) <= set(numbers.findall(known))
    for judge in ("small", "large"):
        assert re.search(rf"^\| {judge} \| \d+\.\d % \| \d+\.\d to \d+\.\d % ", card, re.MULTILINE)
    assert "Not measured: <code>trustescalate judges probe</code> was not run." in card


def test_texts_of_others_are_inert_in_a_card() -> None:
    card = render_card(build(hostile_run()))
    assert HOSTILE.splitlines()[0] not in card
    outside = re.sub(r"<!-- -->|</?sub>|</?code>", "", card)
    assert not re.search(
        r"<|\]\(|https?://|(?<!&)#\w|@", re.sub(r"^#+ |&#\d+;", "", outside, flags=re.MULTILINE)
    )


def test_what_cannot_be_attested_is_refused(project: Project, tmp_path: Path) -> None:
    to = tmp_path / "out"
    with pytest.raises(UsageError, match="about a run as a whole"):
        export_run(project.config, None, "judge_card", to, only="abstained")
    shutil.copytree(project.config.folder, tmp_path / "renewed")
    renewed = Project.open(tmp_path / "renewed" / "trustescalate.toml", overrides=["guarantee.alpha=0.2"])
    asyncio.run(renewed.calibrate())
    with pytest.raises(CertificateMismatch, match="not the certificate that the run rests on"):
        export_run(renewed.config, None, "in_toto", to)
    run = project.load_run()
    none = replace(run.header.certificate, status="none", reason="too few rows")
    without = replace(run, header=replace(run.header, certificate=none))
    assert "No certificate: too few rows" in render_card(build(without))
    assert not to.exists()


def test_an_uncertified_run_has_a_card_and_no_statement(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "uncertified"
    shutil.copytree(ROOT / "examples" / "pass-fail", folder)
    opened = Project.open(folder / "trustescalate.toml")
    asyncio.run(opened.run(uncertified=True))
    with pytest.raises(NotMeasurable, match="nothing is certified"):
        write(opened, "in_toto", tmp_path / "none.json")
    assert "**Uncertified**" in write(opened, "judge_card", tmp_path / "card.md")[1]
