"""The public names are typed: two checkers accept a right program and find each of three mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
MISTAKES = [
    number
    for number, line in enumerate((HERE / "bad.py").read_text("utf-8").splitlines(), 1)
    if line.endswith(("# MISSPELT", "# ARGUMENT", "# METHOD"))
]


def mypy(path: Path, cache: Path) -> list[int]:
    """The lines on which mypy finds an error."""
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "--no-error-summary"]
    root = HERE.parents[1]
    config = cache / "mypy.ini"
    config.write_text("[mypy]\nplugins = pydantic.mypy\nignore_missing_imports = True\n", "utf-8")
    checked = subprocess.run(
        [*command, "--config-file", str(config), "--output", "json", str(path)],
        capture_output=True, text=True, cwd=root, check=False,
    )  # fmt: skip
    found = [json.loads(line) for line in checked.stdout.splitlines()]
    return sorted(
        {row["line"] for row in found if row["file"].endswith(path.name) and row["severity"] == "error"}
    )


def pyright(path: Path, _: Path) -> list[int]:
    """The lines on which pyright finds an error."""
    command = [sys.executable, "-m", "basedpyright", "--level", "error", "--outputjson", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], check=False)
    found = json.loads(checked.stdout)["generalDiagnostics"]
    return sorted({row["range"]["start"]["line"] + 1 for row in found if row["severity"] == "error"})


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_right_program_is_accepted(checker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert checker(HERE / "good.py", tmp_path) == []


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_each_mistake_is_found(checker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert len(MISTAKES) == 3
    assert checker(HERE / "bad.py", tmp_path) == MISTAKES
