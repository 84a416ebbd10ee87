"""Share a report of the factory, and a run with hostile texts for exports."""

from typing import Any

import pytest

from tests.support import factory
from tests.support.projects import calibrate, run, write_project
from trustescalate.project import Project
from trustescalate.records import Run
from trustescalate.report.document import build
from trustescalate.report.sections import Report

HOSTILE = (
    "=cmd|' /C calc'!A0",
    '<b>&amp;</b>"]]>',
    "'quoted",
    '+1,\r\n"2"',
    "{{ 7*7 }} $prompt ${x}",
    "\t@SUM(1)",
)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was run, on items with hostile texts and names of models."""

    def change(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for place, item in enumerate(items):
            item["prompt"] += HOSTILE[place % len(HOSTILE)]
            item["meta"] = {"model_a": "secret-one", "model_b": "secret-two"}

    config = write_project(tmp_path_factory.mktemp("exported") / "p", change=change)
    calibrate(config)
    run(config)
    return Project.open(config)


@pytest.fixture(scope="session")
def done(project: Project) -> Run:
    return project.load_run()


@pytest.fixture(scope="session")
def report() -> Report:
    return build(factory.run())
