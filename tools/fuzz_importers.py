"""Import mutated copies of real files for some minutes: a clear error or a valid set, never a traceback.

    python tools/fuzz_importers.py FOLDER [SECONDS] [SEED]

Prints the number of copies and every exception that is no error of ours, with the seed of its copy.
"""

import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trustescalate.analysis.checks import inspect_project
from trustescalate.config import load_config
from trustescalate.data.import_files import import_files
from trustescalate.errors import TrustEscalateError, UsageError

SUFFIXES = {".json", ".jsonl", ".csv", ".eval"}
ODD = (
    *(None, True, 0, -1, 1e308, float("nan"), float("inf"), 10**400, 0.5, "", " ", "nan", "\0", "\ufeff"),
    *(
        "a" * 5000,
        "🙂",
        "\ud83d",
        [],
        {},
        [[]],
        {"": {}},
        [None],
        ["x", 1],
        {"role": "user"},
        "1",
        "[1]",
        "A",
    ),
)


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, cut, double or insert some bytes."""
    bad = bytearray(data)
    for _ in range(rng.choice([1, 2, 5, 30])):
        place = rng.randrange(len(bad) + 1)
        kind = rng.randrange(5)
        if kind == 0 and bad:
            bad[place % len(bad)] = rng.randrange(256)
        elif kind == 1:
            del bad[place : place + rng.choice([1, 4, 100, 5000])]
        elif kind == 2:
            bad[place:place] = bad[place : place + rng.choice([1, 10, 2000])]
        elif kind == 3:
            bad[place:place] = rng.choice(
                [b'"', b"{", b"]", b",", b"\n", b"\r", b"\\", b"\xff", b"\0", b"sep=;\n"]
            )
        else:
            bad = bad[: rng.randrange(len(bad) + 1)] or bad
    return bytes(bad)


def mutate_value(value: Any, rng: random.Random, rate: float) -> Any:
    """Replace, drop or rename parts of a JSON value."""
    if rng.random() < rate:
        return rng.choice(ODD)
    if isinstance(value, dict):
        kept = {key: mutate_value(each, rng, rate) for key, each in value.items() if rng.random() > rate / 2}
        if kept and rng.random() < rate:
            kept[rng.choice(["id", "label", "winner", "", "prompt", "data"])] = rng.choice(ODD)
        return kept
    if isinstance(value, list):
        return [mutate_value(each, rng, rate) for each in value if rng.random() > rate / 2]
    if isinstance(value, str) and rng.random() < rate * 2:
        return rng.choice([value * 3, value[::-1], value[: len(value) // 2], value.upper()])
    return value


def mutated(path: Path, rng: random.Random) -> bytes:
    """A mutated copy of a file, by its bytes or by its values."""
    data = path.read_bytes()
    if path.suffix not in (".json", ".jsonl") or rng.random() < 0.4:
        return mutate_bytes(data, rng)
    rate = rng.choice([0.002, 0.01, 0.05])
    try:
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in data.splitlines() if line.strip()]
            return "\n".join(json.dumps(mutate_value(line, rng, rate)) for line in lines).encode()
        return json.dumps(mutate_value(json.loads(data), rng, rate)).encode()
    except ValueError:
        return mutate_bytes(data, rng)


def try_import(paths: list[Path], folder: Path, check: Callable[[Path], object]) -> str:
    """Import and check; return the outcome. Raises what is no error of ours."""
    try:
        import_files(paths, folder)
    except UsageError:
        return "refused"
    try:
        check(folder / "trustescalate.toml")
    except TrustEscalateError as error:
        if error.exit_code not in (2, 3):
            raise
        return f"imported, and then: {[*str(error).splitlines(), ''][1].rpartition('.jsonl:')[2][:120]}"
    return "imported"


def main() -> None:
    """Fuzz for some seconds."""
    root = Path(sys.argv[1])
    seconds, seed = (int(each) for each in [*sys.argv[2:4], *["360", "0"][len(sys.argv) - 2 :]])
    files = sorted(
        path for path in root.rglob("*") if path.suffix in SUFFIXES and path.stat().st_size < 200_000
    )
    outcomes, crashes, end = Counter[str](), Counter[str](), time.monotonic() + seconds
    while time.monotonic() < end:
        seed += 1
        rng = random.Random(seed)
        path = rng.choice(files)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(mutated(path, rng))
            beside = [other for other in files if other.parent == path.parent and other != path]
            paths = [copy, rng.choice(beside)] if beside and rng.random() < 0.2 else [copy]
            try:
                outcomes[
                    try_import(paths, Path(folder) / "set", lambda at: inspect_project(load_config(at)))
                ] += 1
            except Exception:
                last = traceback.format_exc().strip().splitlines()
                crashes[last[-3].strip() + " " + last[-1][:150]] += 1
                print(f"seed {seed}: {path}\n" + "\n".join(last[-6:]), flush=True)
    print(
        f"{sum(outcomes.values()) + sum(crashes.values()):,} copies of {len(files)} files: {dict(outcomes)}"
    )
    print(f"crashes: {dict(crashes) or 'none'}")


if __name__ == "__main__":
    main()
