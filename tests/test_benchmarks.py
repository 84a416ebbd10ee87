"""The benchmarks that need no data, as documented. Those on real sets are in tests/shared."""

import pytest

from tests.support.benchmarks import run_benchmark as run

pytestmark = pytest.mark.slow


def test_a_local_ensemble_answers_as_one_prompt_at_a_time_does() -> None:
    """How fast is for a quiet machine to say; what does not hang on time is checked here."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    said = run("local", "--shapes", "tiny", "--items", 4, "--sample", 1, "--batch", 8)
    assert [line.split(" ", 1)[0] for line in said.splitlines()].count("ours,") == 2
    assert "fp32 equal to 1e-05: pass" in said
    assert "memory 0.25: pass" in said


def test_help_is_about_as_fast_as_a_bare_typer_program() -> None:
    """It ends with 1 where the ratio is above its limit, which leaves room for a busy machine."""
    assert "ratio 1." in run("startup")


def test_imports_are_measured_beside_plain_json() -> None:
    """At a small size, and without --check: how fast a busy machine is says nothing."""
    lines = run("imports", "--rows", 3000).splitlines()
    kinds = [line.split()[1] for line in lines[1:]]
    assert kinds == ["short", "short", "long", "long", "repeated", "repeated"]
    memory = [float(line.split()[-1]) for line in lines[1:]]
    assert max(memory) - min(memory) < 40


def test_the_way_to_an_endpoint_is_measured_beside_the_plain_client() -> None:
    """A small one: that it runs and counts every call. How fast it is, only a quiet machine can say."""
    said = run("api", "--calls", 100, "--runs", 1, "--judgments", 500)
    rows = [line.split() for line in said.splitlines() if line.startswith(("trustescalate", "openai client"))]
    assert [row[-6] for row in rows] == ["100"] * 4
    assert all(0 < float(row[-4]) <= 1.05 for row in rows)
    assert "Inspect AI eval: inspect_ai is not installed" in said
    recalled = [line.split() for line in said.splitlines() if " of 10 votes" in line]
    assert [row[0] for row in recalled] == ["100", "500"]
    assert all(float(row[4].replace(",", "")) > 1000 for row in recalled)
