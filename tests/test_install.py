"""What `pip install` brings: a short core, and an extra for what only some need."""

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
CORE = {
    *("jinja2", "markdown-it-py", "numpy", "openai[aiohttp]", "pydantic", "scikit-learn", "scipy"),
    *("threadpoolctl", "typer"),
}
EXTRAS = {
    "formats": {"pyarrow", "zstandard"},
    "frames": {"pandas"},
    "local": {"torch", "transformers"},
}
CLIENTS = {"litellm"}
"""Extras that stand for another package alone: who wants it names it."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;]", requirement)[0].strip() for requirement in requirements}


def test_the_core_needs_these_and_no_more() -> None:
    assert names(PROJECT["dependencies"]) == CORE
    assert all(">=" in requirement for requirement in PROJECT["dependencies"])


def test_all_is_every_extra_that_a_user_needs() -> None:
    extras = {name: names(rows) for name, rows in PROJECT["optional-dependencies"].items()}
    assert {name: extras[name] for name in EXTRAS} == EXTRAS
    runtime = sorted(set(extras) - {"all", "docs", "test"} - CLIENTS)
    assert PROJECT["optional-dependencies"]["all"] == [f"trustescalate[{','.join(runtime)}]"]
