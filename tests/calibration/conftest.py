"""Fixtures of the calibration tests."""

from pathlib import Path

import pytest

from tests.support.groups import GROUPS, write_groups
from tests.support.projects import calibrate, run
from trustescalate.records import Certificate, Run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Certificate, Run]:
    """Three languages, of which the rare one is not tested, and items without any. Tests only read it."""
    values = ["de", "en"] * 6 + ["fi", None]
    config = write_groups(tmp_path_factory.mktemp("groups"), *values, more=GROUPS.replace("20", "40"))
    certificate = calibrate(config)
    return config, certificate, run(config)
