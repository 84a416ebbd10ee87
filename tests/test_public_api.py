"""The public surface is what `__all__` says, and importing it is cheap."""

import inspect
import subprocess
import sys

import pytest

import trustescalate

HEAVY = ("numpy", "openai", "pandas", "pydantic", "scipy", "sklearn", "torch", "transformers")


def test_all_is_sorted_and_complete() -> None:
    assert trustescalate.__all__ == sorted(trustescalate._HOMES)


@pytest.mark.parametrize("name", trustescalate.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    thing = getattr(trustescalate, name)
    assert inspect.getdoc(thing)
    assert name in dir(trustescalate)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'certifyy'"):
        trustescalate.certifyy  # noqa: B018


@pytest.mark.parametrize("statement", ["import trustescalate", "import trustescalate.cli"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    code = f"import sys\n{statement}\nprint(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
