"""Import damaged copies of real files; any exception but our own is a failure.

    python -m benchmarks.fuzz_imports FOLDER [--minutes M] [--seed S]

FOLDER holds files of other tools. Bytes are flipped, cut, doubled; values of JSON are swapped for others,
dropped, nested deeply, made huge; keys come twice.

Exit 1 with the seed of every trial that ended in a traceback.
"""

import argparse
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

from trustescalate.data.import_files import import_files
from trustescalate.errors import TrustEscalateError

SUFFIXES = {".json", ".jsonl", ".csv", ".eval", ".parquet", ".tsv", ".gz"}
LARGEST = 400_000
STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**400, 1e308, float("nan"), float("inf"), "", " ", "A", "tie", "\ud800", "\0",
    "../../x", "<script>", "{x}", [], {}, [[]], [None], {"": None}, [{"role": "user", "content": None}],
    "[('a','user')]", "[" * 300, "9" * 5000,
)  # fmt: skip


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Some bytes are others."""
    bad = bytearray(data)
    for _ in range(rng.choice([1, 3, 30])):
        bad[rng.randrange(len(bad))] = rng.randrange(256)
    return bytes(bad)


def cut(data: bytes, rng: random.Random) -> bytes:
    """A stretch is missing, or stands there twice."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + (data[end:] if rng.random() < 0.5 else data[:end] + data[start:])


def restructured(data: bytes, rng: random.Random) -> bytes:
    """Values are swapped, dropped, nested, or come twice."""
    text = data.decode("utf-8-sig", "replace")
    try:
        parts = [json.loads(text)]
    except ValueError:
        try:
            parts = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            return flipped(data, rng)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(parts))
        parts[place] = _changed(parts[place], rng, rng.randrange(1, 7))
    said = "\n".join(json.dumps(part) for part in parts)
    if rng.random() < 0.1:
        key = rng.choice(["id", "label", "prompt", "winner"])
        said = said.replace("{", '{"' + key + '": 1, ', rng.randrange(1, 4))
    if rng.random() < 0.05:
        said = said.replace('"', "[" * 5000 + '"', 1)
    return said.encode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace")


def _changed(value: Any, rng: random.Random, depth: int) -> Any:
    if depth and isinstance(value, dict) and value:
        key = rng.choice(list(value))
        if depth == 1 and rng.random() < 0.3:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: _changed(value[key], rng, depth - 1)}
    if depth and isinstance(value, list) and value:
        place = rng.randrange(len(value))
        if depth == 1 and rng.random() < 0.3:
            return value[:place] + value[place + 1 :]
        return [*value[:place], _changed(value[place], rng, depth - 1), *value[place + 1 :]]
    deep: Any = rng.choice(STRANGE)
    if rng.random() < 0.05:
        for _ in range(rng.choice([10, 150, 400])):
            deep = [deep]
    return deep


WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (flipped, cut, restructured, restructured)


def trial(path: Path, seed: int, folder: Path) -> str:
    """Damage one file by a seed and import it; what came of it, "crash" for what must not happen."""
    rng = random.Random(seed)
    data = rng.choice(WAYS)(path.read_bytes(), rng)
    copy = folder / (path.name if rng.random() < 0.9 else f"{path.stem}{rng.choice(sorted(SUFFIXES))}")
    copy.write_bytes(data)
    try:
        found = import_files([copy], folder / "set")
    except TrustEscalateError:
        return "refused"
    except Exception:
        traceback.print_exc()
        return "crash"
    return "taken in part" if found.refused else "taken"


def main() -> None:
    """Go on for some minutes, file by file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = [path for path in sorted(given.folder.rglob("*")) if path.suffix in SUFFIXES]
    files = [path for path in found if path.stat().st_size <= LARGEST]
    end, seed, counts = time.monotonic() + 60 * given.minutes, given.seed, Counter[str]()
    while time.monotonic() < end:
        path = files[seed % len(files)]
        with tempfile.TemporaryDirectory() as folder:
            fate = trial(path, seed, Path(folder))
        counts[fate] += 1
        if fate == "crash":
            print(f"crash: {path}, seed {seed}", file=sys.stderr)
        seed += 1
    print(f"{sum(counts.values()):,} trials on {len(files)} files: {dict(counts)}")
    sys.exit(1 if counts["crash"] else 0)


if __name__ == "__main__":
    main()
