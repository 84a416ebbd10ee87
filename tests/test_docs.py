"""What the documentation shows is what happens, in the terms of the glossary: every example is executed."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

from tests.support.documents import ROOT, run_blocks
from tests.support.words import KEYS, WORDS, denied
from trustescalate.data.importers.registry import FORMATS

DOCS = ROOT / "docs"
pytestmark = pytest.mark.slow
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "trustescalate").rglob("*.py")
)
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "examples").rglob("*.md"))]
GENERATED = ("cli.md", "configuration.md", "api.md")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
TERMS = {
    "agreement.md": "inter-annotator agreement",
    "prompt-injection.md": "prompt injection",
    "judges.md": "position bias",
    "report.md": "length bias",
    "method.md": "selective risk",
    "groups.md": "held-out",
}
"""Terms of the field, each on the page of its subject."""


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if module.startswith("trustescalate.integrations."):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            pytest.skip(f"needs its host: `make test-integrations` runs it ({error})")
    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    for name in ("calibration_sets", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    run_blocks(page, tmp_path, tmp_path / "bin")


def test_the_deny_list_names_the_term_to_use() -> None:
    assert list(denied("The dearest judge keeps its promise.")) == [
        "dearest: last judge",
        "promise: guarantee",
    ]
    assert list(denied("endearing, compromise, --fresher")) == []
    assert [old for old, new in (*WORDS, *KEYS) if old == new] == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_uses_the_terms_of_the_glossary(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [heading for heading in HEADING.findall(prose) if "?" in heading] == []
    assert list(denied(" ".join(prose.split()))) == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_overrides_the_configuration_with_set(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"\bsed\b|\.replace\(", text)


@pytest.mark.parametrize(("page", "term"), TERMS.items())
def test_a_term_of_the_field_is_on_the_page_of_its_subject(page: str, term: str) -> None:
    assert term in (DOCS / page).read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_links_to_files_that_exist(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")) and target not in GENERATED:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_names_tests_and_benchmarks_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"\btest_\w+\.py\b", text)) <= tests
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert set(re.findall(r"\bbenchmarks[./](\w+)", text)) <= benchmarks


def test_the_site_lists_every_page() -> None:
    listed = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | set(GENERATED)


def test_the_readme_is_short_and_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    from trustescalate.cli import app

    assert len(text.splitlines()) <= 90
    for command in app.registered_commands:
        if not command.hidden:
            assert f"`{command.name or command.callback.__name__}`" in text  # type: ignore[union-attr]
    for group in app.registered_groups:
        assert f"`{group.name}" in text


def test_the_page_on_the_gate_has_every_exit_code() -> None:
    text = (DOCS / "ci-gate.md").read_text(encoding="utf-8")
    for code in (0, 1, 2, 3, 4, 70, 130):
        assert re.search(rf"^\| {code} \|", text, re.MULTILINE), code


def test_the_page_on_the_public_api_lists_every_public_name() -> None:
    import trustescalate

    text = (DOCS / "public-api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert listed == {name for name in trustescalate.__all__ if name != "__version__"}


def test_the_page_on_imports_names_every_format() -> None:
    text = (DOCS / "import.md").read_text(encoding="utf-8")
    for name, found in FORMATS.items():
        assert f"| `{name}` | {found.about} |" in text


@pytest.mark.parametrize(
    "path", sorted((ROOT / "trustescalate/stats").glob("*.py")), ids=lambda path: path.stem
)
def test_each_public_function_of_stats_has_an_example(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            docstring = ast.get_docstring(node) or ""
            assert ">>> " in docstring, f"{path.name}: {node.name} has no example"
