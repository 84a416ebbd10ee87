"""The options --engine and --address of `calibrate` and `run`."""

import sys
from pathlib import Path

import pytest

from tests.support.command_line import cli
from tests.support.engines import Mortals
from tests.support.projects import write_project

REFUSED = {
    ("--address", "auto"): "add --engine ray",
    ("--engine", "spark"): "engines are local and ray",
    ("--engine", "ray", "--address", "ray://head:10001"): "host:port",
}


@pytest.mark.parametrize("command", ["calibrate", "run"])
@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_what_is_no_engine_ends_a_command(command: str, options: tuple[str, ...], tmp_path: Path) -> None:
    config = write_project(tmp_path)
    result = cli(command, "--config", config, *options)
    assert result.exit_code == 2, result.output
    assert REFUSED[options] in " ".join(result.stderr.split())
    assert not (tmp_path / "certificate.json").exists()


def test_without_ray_a_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = cli("calibrate", "--config", write_project(tmp_path), "--engine", "ray")
    assert result.exit_code == 2, result.output
    assert "pip install 'trustescalate[ray]'" in result.stderr


@pytest.mark.slow
def test_the_command_that_resumes_names_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str | None] = []

    def engine(address: str | None = None) -> Mortals:
        opened.append(address)
        return Mortals()

    monkeypatch.setattr("trustescalate.cascade.engines.ray.RayEngine", engine)
    given = ("--config", write_project(tmp_path), "--engine", "ray", "--address", "10.0.0.1:6379")
    assert cli("calibrate", *given).exit_code == 0
    stopped = cli("run", *given, "--no-cache", "--budget-calls", 3)
    assert stopped.exit_code == 4
    assert "--engine ray --address 10.0.0.1:6379 --resume" in stopped.stderr
    assert opened == ["10.0.0.1:6379"] * 2
