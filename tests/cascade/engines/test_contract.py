"""What holds for every engine. Ray's own tests are in tests/hosts/ray, where Ray is installed."""

from pathlib import Path

import pytest

from tests.support import engines
from tests.support.engines import Mortals
from trustescalate.cascade.engines.protocol import ENGINES, Engine, engine_of

KINDS = ["local", "workers in this process"]


def engine(kind: str) -> Engine:
    return Mortals() if kind not in ENGINES else engine_of(kind)


def test_each_engine_is_tested_here_or_in_its_host() -> None:
    hosts = Path(__file__).parents[2] / "hosts"
    assert [
        name for name in ENGINES if name not in KINDS and not (hosts / name / "test_engine.py").exists()
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_decisions_are_those_of_this_process(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.decides_as_this_process(engine(kind), tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_those_of_this_process(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines.fails_as_this_process(engine(kind), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_is_kept(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines.keeps_to_the_rate(engine(kind), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[1:])
def test_local_models_answer_as_in_this_process(kind: str, tmp_path: Path) -> None:
    engines.answers_as_this_process(engine(kind), engines.tiny_models(tmp_path))
