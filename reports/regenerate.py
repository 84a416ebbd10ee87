"""Make the sample reports in this folder from the recorded votes of the demo set.

    python reports/regenerate.py

Clock, run id and versions are fixed, so equal code gives equal bytes; tests/test_reports.py compares them.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from trustescalate.analysis.comparison import compare
from trustescalate.analysis.comparison_change import Compared
from trustescalate.analysis.comparison_page import comparison_page
from trustescalate.analysis.matched_pairs import matched_pairs
from trustescalate.data.dataset import load_dataset
from trustescalate.project import Project
from trustescalate.records import Run
from trustescalate.records.jsonl import write_atomically, write_rows
from trustescalate.records.progress import Hooks
from trustescalate.report.document import build
from trustescalate.report.follow import with_next
from trustescalate.report.gate import decide
from trustescalate.report.html import render_html
from trustescalate.report.machine import render_json
from trustescalate.report.markdown import render_markdown
from trustescalate.report.release import with_release
from trustescalate.report.sections import Page, Report

HERE = Path(__file__).parent
DEMO = HERE.parent / "calibration_sets" / "demo"
CLOCK = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOLDOUT, COMPARED = 0.33, 220
"""The share of labelled items that runs judge as well, and the items of the compared runs."""
LAST = """
[[judges]]
name = "simulated-M"
backend = "replay"
votes = "votes/simulated-M.jsonl.gz"
price = { input = 5.0, output = 15.0 }
"""
SHOWN = 20
"""Rows that were examples when the votes were recorded, so they must not be tested."""
RENDERERS = {
    "html": lambda report: render_html(report.page()),
    "md": lambda report: render_markdown(report.page()),
    "json": render_json,
}


def sample_reports() -> Mapping[str, str]:
    """File names and contents: the demo as run, calibrated, with an α that fails, and with other judges."""
    with tempfile.TemporaryDirectory() as room:
        home = Path(room)
        made = {
            "demo": _run(home / "demo"),
            "calibration": _calibrated(home / "calibration"),
            "no-certificate": _calibrated(home / "refused", ("alpha = 0.15", "alpha = 0.02")),
        }
        compared = render_html(_compared(home / "baseline", home / "candidate"))
    texts = {
        f"{name}.{suffix}": render(report)
        for name, report in made.items()
        for suffix, render in RENDERERS.items()
    }
    return {**texts, "compare.html": compared}


def _run(folder: Path) -> Report:
    project = _replayed(folder)
    asyncio.run(project.calibrate())
    run = asyncio.run(project.run())
    fixed = _fixed(project.load_run(run.header.id), "sample")
    report = build(fixed)
    report = with_release(report, decide(report, project.config.gate), project.config.gate)
    return with_next(report, (), fixed)


def _fixed(run: Run, name: str) -> Run:
    fixed = {"id": f"{CLOCK:%Y%m%dT%H%M%SZ}-{name}", "versions": {"trustescalate": "sample"}}
    return replace(run, header=replace(run.header, **fixed))


def _calibrated(folder: Path, *changes: tuple[str, str]) -> Report:
    project = _replayed(folder, *changes)
    asyncio.run(project.calibrate())
    return project.report()[0]


def _compared(first: Path, second: Path) -> Page:
    """Compare the cascade with one that lacks the last judge, on labelled and unlabelled items."""
    roles = (f"exemplars = {SHOWN}", f"exemplars = {SHOWN}\nholdout = {HOLDOUT}")
    cheap = (("alpha = 0.15", "alpha = 0.25"), (LAST, ""))
    sides = []
    for folder, name, changes in ((first, "baseline", ()), (second, "candidate", cheap)):
        project = _replayed(folder, roles, *changes)
        asyncio.run(project.calibrate())
        data, rest = load_dataset(project.config), set(project.roles()["holdout"])
        open_ = [item for item in data.items if item.id in rest or item not in data.labelled][:COMPARED]
        write_rows(folder / "compared.jsonl", open_)
        run = asyncio.run(project.run(items=folder / "compared.jsonl"))
        loaded = _fixed(project.load_run(run.header.id), name)
        sides.append(Compared(project.config, loaded, data))
    before, after = sides
    pairs = matched_pairs(before.run, after.run)
    command = f"trustescalate compare {before.run.header.id} {after.run.header.id} --config-b ../candidate"
    return comparison_page(compare((before, after), pairs), (before, after), pairs, command)


def _replayed(folder: Path, *changes: tuple[str, str]) -> Project:
    shutil.copytree(DEMO, folder)
    config = folder / "trustescalate.toml"
    text = config.read_text(encoding="utf-8")
    text += f"\n[roles]\nexemplars = {SHOWN}\n"
    replays: tuple[tuple[str, str], ...] = ()
    for size in ("XS", "S", "M"):
        live = f'backend = "simulated"\nmodel = "{size}"'
        replays = (*replays, (live, f'backend = "replay"\nvotes = "votes/simulated-{size}.jsonl.gz"'))
    for old, new in (*replays, *changes):
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text, encoding="utf-8")
    return replace(Project.open(config, Hooks(clock=lambda: CLOCK)), options=())


if __name__ == "__main__":
    for name, text in sample_reports().items():
        write_atomically(HERE / name, text.encode())
