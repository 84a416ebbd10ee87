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

from trustescalate.project import Project
from trustescalate.records.jsonl import write_atomically
from trustescalate.records.progress import Hooks
from trustescalate.report.document import build, build_calibration
from trustescalate.report.html import render_html
from trustescalate.report.machine import render_json
from trustescalate.report.markdown import render_markdown
from trustescalate.report.sections import Report

HERE = Path(__file__).parent
DEMO = HERE.parent / "calibration_sets" / "demo"
CLOCK = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SHOWN = 20
"""Rows that were examples when the votes were recorded, so they must not be tested."""
RENDERERS = {
    "html": lambda report: render_html(report.page()),
    "md": render_markdown,
    "json": render_json,
}


def sample_reports() -> Mapping[str, str]:
    """File names and contents: the demo as run, and the same labels held against a guarantee that fails."""
    with tempfile.TemporaryDirectory() as room:
        made = {"demo": _run(Path(room) / "demo"), "no-certificate": _refused(Path(room) / "refused")}
    return {
        f"{name}.{suffix}": render(report)
        for name, report in made.items()
        for suffix, render in RENDERERS.items()
    }


def _run(folder: Path) -> Report:
    project = _replayed(folder)
    asyncio.run(project.calibrate())
    run = asyncio.run(project.run())
    fixed = {"id": f"{CLOCK:%Y%m%dT%H%M%SZ}-sample", "versions": {"trustescalate": "sample"}}
    return build(replace(run, header=replace(run.header, **fixed)))


def _refused(folder: Path) -> Report:
    project = _replayed(folder, ("alpha = 0.15", "alpha = 0.02"))
    return build_calibration(asyncio.run(project.calibrate()))


def _replayed(folder: Path, *changes: tuple[str, str]) -> Project:
    shutil.copytree(DEMO, folder)
    config = folder / "trustescalate.toml"
    text = config.read_text(encoding="utf-8")
    text += f"\n[roles]\nexemplars = {SHOWN}\n"
    for size in ("XS", "S", "M"):
        live = f'backend = "simulated"\nmodel = "{size}"'
        changes = (*changes, (live, f'backend = "replay"\nvotes = "votes/simulated-{size}.jsonl.gz"'))
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text, encoding="utf-8")
    return Project.open(config, Hooks(clock=lambda: CLOCK))


if __name__ == "__main__":
    for name, text in sample_reports().items():
        write_atomically(HERE / name, text.encode())
