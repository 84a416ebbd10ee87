"""The rooms hold: the table of the house, and nothing longer."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "trustescalate"

ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "stats": set(),
    "records": {"errors"},
    "config": {"records", "errors"},
    "data": {"config", "records", "stats", "errors"},
    "judges": {"data", "config", "records", "errors"},
    "calibration": {"data", "config", "records", "stats", "errors"},
    "cascade": {"calibration", "judges", "data", "config", "records", "stats", "errors"},
    "report": {"calibration", "data", "config", "records", "stats", "errors"},
    "analysis": {
        "report",
        "cascade",
        "calibration",
        "judges",
        "data",
        "config",
        "records",
        "stats",
        "errors",
    },
    "project": {
        "analysis",
        "report",
        "cascade",
        "calibration",
        "judges",
        "data",
        "config",
        "records",
        "errors",
    },
    "integrations": {"project", "analysis", "report", "cascade", "calibration", "judges", "data", "config"}
    | {"records", "errors"},
    "cli": {"integrations", "project", "analysis", "report", "cascade", "calibration", "judges", "data"}
    | {"config", "records", "errors"},
}
"""What each room may import; everything else is forbidden. The public names are lazy in `__init__`."""

THIRD_PARTY: dict[str, set[str]] = {
    "stats": {"numpy", "scipy", "sklearn"},
    "records.columns": {"numpy"},
    "records.jsonl": {"pydantic"},
    "records.judging": {"pydantic"},
    "config": {"pydantic"},
    "data.importers.hugging_face": {"datasets", "huggingface_hub"},
    "data.clusters": {"numpy", "scipy"},
    "data": {"numpy", "pydantic", "pydantic_core", "pyarrow", "zstandard", "aiohttp", "markdown_it"},
    "judges": {"aiohttp", "pydantic_core", "openai", "httpx", "httpx2", "numpy", "sklearn", "threadpoolctl"},
    "judges.local": {"torch", "transformers", "peft", "torchao"},
    "calibration": {"numpy"},
    "cascade": {"numpy"},
    "integrations.inspect_ai": {"anyio", "inspect_ai"},
    "integrations.pydantic_evals": {"pydantic_core", "pydantic_evals"},
    "integrations.pytest_plugin": {"pytest"},
    "report": {"numpy", "jinja2", "markupsafe", "pandas", "pyarrow"},
    "analysis": {"numpy"},
    "integrations.opentelemetry": {"opentelemetry"},
    "integrations.mcp": {"mcp"},
    "cli": {"typer", "rich"},
    "integrations.deepeval": {"deepeval"},
    "integrations.mlflow": {"mlflow"},
}
"""Packages beside the standard library, by room or module: the most specific entry holds."""

NEVER = {"stats": {"logging", "pathlib", "random", "time", "datetime", "os", "json"}}
LONGEST = 450
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
    return names


def rooms_used(path: Path) -> set[str]:
    ours = {name for name in imports_of(path) if name.startswith("trustescalate.")}
    return {room_of(name.removeprefix("trustescalate.")) for name in ours}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    room = room_of(name_of(path))
    if room not in ("__init__", "__main__"):
        assert rooms_used(path) - {room} <= ROOMS[room]


def test_the_rooms_have_no_cycle() -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for path in MODULES:
        if room_of(name_of(path)) in ROOMS:
            used[room_of(name_of(path))] |= rooms_used(path) - {room_of(name_of(path))}
    order = list(TopologicalSorter(used).static_order())
    for room in order:
        print(f"{room:<12} imports {', '.join(sorted(used[room])) or 'nothing of ours'}")
    assert set(order) == set(ROOMS)
    assert {room_of(name_of(path)) for path in MODULES} == {*ROOMS, "__init__", "__main__"} - {""}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_module_keeps_its_diet(path: Path) -> None:
    module = name_of(path)
    used = {name.split(".")[0] for name in imports_of(path)} - {"trustescalate"}
    foreign = used - set(sys.stdlib_module_names)
    parts = module.split(".")
    listed = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    allowed: set[str] = next((THIRD_PARTY[name] for name in listed if name in THIRD_PARTY), set())
    assert foreign <= allowed, f"{module} uses {foreign - allowed}"
    assert not used & NEVER.get(room_of(module), set())


def test_no_room_below_the_front_takes_a_project() -> None:
    for path in MODULES:
        if room_of(name_of(path)) not in ("cli", "integrations", "project", "__init__", "__main__"):
            assert "Project" not in {
                node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)
            }, path.name


def test_files_are_short_enough_to_read() -> None:
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}
    assert lengths["project"] <= 300
    assert 100 <= median(lines for lines in lengths.values() if lines > 10) <= 220


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_tests_share_helpers_in_support_alone(path: Path) -> None:
    ours = {name for name in imports_of(path) if name.split(".")[0] == "tests"}
    assert {name for name in ours if not f"{name}.".startswith("tests.support.")} == set()


def test_the_package_imports_neither_tests_nor_benchmarks() -> None:
    """The wheel holds the package alone."""
    used = {name.split(".")[0] for path in MODULES for name in imports_of(path)}
    assert not used & {"tests", "benchmarks", "reports"}
