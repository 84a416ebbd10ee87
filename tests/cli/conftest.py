"""Projects for the command line."""

import shutil
from pathlib import Path

import pytest

from tests.support.projects import calibrate, run, write_project


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a certificate and a run, for commands that only read."""
    config = write_project(tmp_path_factory.mktemp("done") / "with a space")
    calibrate(config)
    run(config)
    return config


@pytest.fixture
def copied(done: Path, tmp_path: Path) -> Path:
    """A copy of that project, for runs that fail: they are recorded."""
    return Path(shutil.copytree(done.parent, tmp_path / "copied")) / done.name


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_project(tmp_path)
