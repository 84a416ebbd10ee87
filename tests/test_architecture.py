"""The layers hold: imports point down, siblings do not know one another, and each module keeps its diet."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "trustescalate"

LAYERS: list[set[str]] = [
    {"types", "errors", "stats"},
    {"config", "jsonl", "labels", "values", "votes"},
    {"dataset", "estimand", "exporters", "importers", "judges", "people", "protocol", "simulate", "store"},
    {"diagnostics", "doubts", "imported_set", "ledger", "refusal", "region", "scoring", "testing"},
    {"attempts", "evidence", "expectation"},
    {"group_promises", "leaderboard"},
    {"calibrate", "cascade", "selection"},
    {"batch", "conformal_run", "deferred", "report"},
    {"gate"},
    {"project"},
    {"recorded"},
    {
        "band",
        "bench",
        "comparison",
        "display",
        "estimator_choice",
        "inspection",
        "labelling",
        "monitor",
        "path_choice",
        "pilot_plan",
        "probe",
        "reparse",
        "selftest",
        "starter",
    },
    {"export_data", "import_data"},
    {"cli"},
    {"__main__"},
]
RANK = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}

THIRD_PARTY: dict[str, set[str]] = {
    "band": {"numpy"},
    "bench": {"numpy"},
    "calibrate": {"numpy"},
    "cascade": {"numpy"},
    "cli": {"typer"},
    "comparison": {"numpy"},
    "config": {"pydantic"},
    "diagnostics": {"numpy"},
    "display": {"rich"},
    "estimand": {"numpy"},
    "estimator_choice": {"numpy"},
    "doubts": {"numpy"},
    "evidence": {"numpy"},
    "expectation": {"numpy"},
    "exporters.tables": {"pyarrow"},
    "group_promises": {"numpy"},
    "import_data": {"pydantic"},
    "imported_set": {"numpy", "pydantic_core"},
    "importers.columns": {"pydantic"},
    "importers.files": {"pyarrow", "pydantic_core", "zstandard"},
    "inspection": {"numpy"},
    "jsonl": {"pydantic"},
    "judges.classical": {"numpy", "sklearn", "threadpoolctl"},
    "leaderboard": {"numpy"},
    "judges.completions": set(),
    "judges.endpoint": {"openai", "httpx", "httpx2", "aiohttp"},
    "judges.features": {"numpy", "sklearn"},
    "judges.local": {"torch", "transformers"},
    "judges.local.loading": {"torch", "transformers", "peft", "torchao"},
    "judges.openai": {"openai", "httpx", "httpx2", "aiohttp"},
    "labelling.agreement": {"numpy"},
    "labelling.server": {"aiohttp"},
    "monitor": {"numpy"},
    "path_choice": {"numpy"},
    "people": {"numpy"},
    "protocol": {"numpy"},
    "region": {"numpy"},
    "pilot_plan": {"numpy"},
    "recorded": {"numpy"},
    "refusal": {"numpy"},
    "report.charts": {"matplotlib"},
    "report.html": {"jinja2", "markupsafe"},
    "selection": {"numpy"},
    "scoring": {"numpy"},
    "selftest": {"numpy"},
    "stats": {"numpy", "scipy"},
    "stats.fitted": {"numpy", "scipy", "sklearn"},
    "testing": {"numpy"},
    "types.frame": {"pandas"},
    "votes": {"numpy"},
}
"""Whoever is not listed, nor lies in a listed package, uses the standard library alone."""

NEVER = {"stats": {"logging", "pathlib", "random", "time", "datetime", "os", "json"}}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def unit_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    module = name_of(path)
    if module == "__init__":
        return
    ours = {
        name.removeprefix("trustescalate.") for name in imports_of(path) if name.startswith("trustescalate.")
    }
    for other in {unit_of(name) for name in ours} - {unit_of(module)}:
        assert RANK[other] < RANK[unit_of(module)], f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_module_keeps_its_diet(path: Path) -> None:
    module = name_of(path)
    used = {name.split(".")[0] for name in imports_of(path)} - {"trustescalate"}
    foreign = used - set(sys.stdlib_module_names)
    parts = module.split(".")
    listed = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    allowed: set[str] = next((THIRD_PARTY[name] for name in listed if name in THIRD_PARTY), set())
    assert foreign <= allowed, f"{module} uses {foreign - allowed}"
    assert not used & NEVER.get(unit_of(module), set())


def test_stats_knows_no_other_module_of_ours() -> None:
    for path in (PACKAGE / "stats").glob("*.py"):
        ours = {name for name in imports_of(path) if name.startswith("trustescalate")}
        assert all(name.startswith("trustescalate.stats") for name in ours), path.name


def test_cascade_and_calibrate_never_meet_a_provider_or_a_page() -> None:
    for name in ("cascade", "calibrate"):
        imported = imports_of(PACKAGE / f"{name}.py")
        assert not {i for i in imported if "openai" in i or "report" in i or "store" in i}
    assert not {i for i in imports_of(PACKAGE / "calibrate.py") if "judges" in i}


def test_every_unit_has_a_layer() -> None:
    assert {unit_of(name_of(path)) for path in MODULES} - {"__init__"} == set(RANK)
