"""What is committed as a sample, or recorded as votes, is what the code makes today."""

import asyncio
import gzip
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def samples() -> dict[str, str]:
    return dict(script("reports/regenerate.py").sample_reports())


@pytest.mark.parametrize(
    "name",
    [
        *(f"{n}.{s}" for n in ("demo", "calibration", "no-certificate") for s in ("html", "md", "json")),
        "compare.html",
    ],
)
def test_the_sample_reports_are_up_to_date(samples: dict[str, str], name: str) -> None:
    committed = (ROOT / "reports" / name).read_text(encoding="utf-8")
    assert committed == samples[name], "run `python reports/regenerate.py` and look at what changed"


def test_the_recorded_votes_are_up_to_date() -> None:
    module = script("calibration_sets/record_votes.py")
    for judge, rows in asyncio.run(module.record(module.DEMO)).items():
        committed = (module.DEMO / "votes" / f"{judge}.jsonl.gz").read_bytes()
        assert gzip.decompress(committed) == gzip.decompress(rows)
