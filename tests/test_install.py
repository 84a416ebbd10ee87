"""What `pip install` brings: a short core, and an extra for what only some need."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CORE = {
    *("aiohttp", "jinja2", "markdown-it-py", "numpy", "openai", "pydantic", "scikit-learn", "scipy"),
    *("threadpoolctl", "typer"),
}
EXTRAS = {
    "formats": {"pyarrow", "zstandard"},
    "frames": {"pandas"},
    "local": {"torch", "transformers"},
    "mcp": {"mcp"},
    "vllm": {"transformers", "vllm"},
}
HOSTED = {"hf", "litellm", "mcp", "otel", "ray", "vllm"}
"""Extras of adapters and engines: who uses one has its host, so `all` brings none."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;]", requirement)[0].strip() for requirement in requirements}


def test_the_core_needs_these_and_no_more() -> None:
    assert names(PROJECT["dependencies"]) == CORE
    assert all(">=" in requirement for requirement in PROJECT["dependencies"])


def test_all_is_every_extra_that_a_user_needs() -> None:
    extras = {name: names(rows) for name, rows in PROJECT["optional-dependencies"].items()}
    assert {name: extras[name] for name in EXTRAS} == EXTRAS
    runtime = sorted(set(extras) - {"all", "docs", "test"} - HOSTED)
    assert PROJECT["optional-dependencies"]["all"] == [f"trustescalate[{','.join(runtime)}]"]


def closure(requirements: list[str]) -> set[str]:
    """The packages that requirements bring, with what those require in turn, as installed here."""
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(text), "") for text in requirements]
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        for each in {"", *wanted.extras} - {extra for name, extra in seen if name == wanted.name}:
            seen.add((wanted.name, each))
            try:
                required = distribution(wanted.name).requires or []
            except PackageNotFoundError:
                continue
            todo += [(Requirement(text), each) for text in required]
    return {canonicalize_name(name) for name, _ in seen}


def test_no_host_of_an_adapter_comes_with_the_package() -> None:
    pins = [path.read_text("utf-8") for path in (ROOT / "tests/hosts").glob("*/requirements.txt")]
    lines = [line for text in pins for line in text.splitlines() if line.strip() and line[0] not in "#-"]
    hosts = {canonicalize_name(Requirement(line.partition(" #")[0]).name) for line in lines}
    brought = closure(PROJECT["dependencies"])
    assert {"numpy", "pydantic-core", "aiohttp", "multidict"} <= brought, "also of extras, and in turn"
    assert {"mcp"} <= hosts
    assert hosts & brought <= {canonicalize_name(name.partition("[")[0]) for name in CORE}
