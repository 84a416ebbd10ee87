"""Run each adapter against its real host: `make test-integrations`. Elsewhere these tests are not collected.

A folder here is a host: `requirements.txt` pins it, and the environment variable TRUSTESCALATE_HOST names
the one whose tests are run. Its fixtures are two projects with a certificate and a run of the command line.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import ROOT
from tests.support.hosted import Certified

HOST = os.environ.get("TRUSTESCALATE_HOST", "")

collect_ignore = [
    path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name != HOST
]


def _certified(source: Path, folder: Path) -> Certified:
    shutil.copytree(source, folder)
    for command in ("calibrate", "run"):
        subprocess.run(
            [sys.executable, "-m", "trustescalate", command],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    (run,) = (folder / "runs").glob("*/run.json")
    items, decisions = (
        [json.loads(line) for line in (run.parent / name).read_text("utf-8").splitlines()]
        for name in ("items.jsonl", "decisions.jsonl")
    )
    return Certified(folder, tuple(items), {row["item_id"]: row for row in decisions})


@pytest.fixture(scope="session")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """Single answers, pass or fail, by recorded votes: the example `pass-fail`."""
    return _certified(ROOT / "examples" / "pass-fail", tmp_path_factory.mktemp("graded") / "project")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """Pairs of answers, by simulated judges that read the texts: the demo."""
    source = ROOT / "calibration_sets" / "demo"
    return _certified(source, tmp_path_factory.mktemp("pairs") / "project")
