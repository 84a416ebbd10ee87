"""Print constraints that pin each dependency to the lowest version that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
RANGE = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)")


def lowest(extras: tuple[str, ...] = ("formats", "test")) -> list[str]:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    ranges = {*project["dependencies"], *(each for extra in extras for each in optional[extra])}
    matches = [RANGE.match(each) for each in sorted(ranges)]
    return [f"{match[1]}=={match[2]}" for match in matches if match]


if __name__ == "__main__":
    print("\n".join(lowest()))
