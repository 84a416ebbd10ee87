"""Measure an import against json.loads over the same file, and whether its memory grows with the file.

    python -m benchmarks.imports [--rows 1000000] [--check]

Each figure comes from a process of its own. Rows are short (about 120 bytes), long (about 400), or five
labels on each item.

Times are of the processor, the best of three of each, in turns. Says nothing of other formats.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trustescalate.cli.app import GARBAGE
from trustescalate.data.import_files import import_files

KINDS = ("short", "long", "repeated")
LEAST_RATIO = {"short": 0.1, "long": 0.13, "repeated": 0.13}
"""Time of json.loads over that of an import, which looks up every item and label on disk."""
MOST_GROWTH_MB = 40


def rows(kind: str, count: int) -> Iterator[dict[str, object]]:
    """Invented pairs with a label each."""
    more = " and so on and on" * 5 if kind == "long" else ""
    for place in range(count):
        item = place // 5 if kind == "repeated" else place
        row: dict[str, object] = {"id": f"item-{item}", "prompt": f"What is {item} plus {item}?{more}"}
        row |= {
            "response_a": f"It is {2 * item}.{more}",
            "response_b": f"No idea.{more}",
            "label": "AB"[place % 2],
        }
        if kind == "repeated":
            row["annotator"] = f"person {place % 5}"
        yield row


def measure(kind: str, count: int) -> dict[str, float]:
    """Import invented rows in this process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(kind, count))
        gc.set_threshold(GARBAGE)  # as the command does
        turns = [(_loads(path), _imports(path, Path(folder) / f"set {turn}", count)) for turn in range(3)]
        plain, taken = map(min, zip(*turns, strict=True))
        return {
            "bytes_a_row": path.stat().st_size / count,
            "ratio": plain / taken,
            "rows_a_second": count / taken,
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _loads(path: Path) -> float:
    start = time.process_time()
    with path.open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)
    return time.process_time() - start


def _imports(path: Path, folder: Path, count: int) -> float:
    start = time.process_time()
    assert import_files([path], folder).annotations == count
    return time.process_time() - start


def _apart(kind: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.imports", "--one", kind, "--rows", str(count)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(said))


def main() -> None:
    """Print a table; with --check, fail where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--one", choices=KINDS, help="only this one, in this process, as JSON")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.rows)))
        return
    failed = []
    print(f"{'rows':>10} {'kind':<9} {'bytes':>6} {'ratio':>6} {'rows/s':>9} {'MB':>6}")
    for kind in KINDS:
        sizes = [max(given.rows // 10, 1), given.rows]
        found = [_apart(kind, count) for count in sizes]
        for count, each in zip(sizes, found, strict=True):
            figures = f"{each['ratio']:>6.2f} {each['rows_a_second']:>9,.0f} {each['megabytes']:>6.0f}"
            print(f"{count:>10,} {kind:<9} {each['bytes_a_row']:>6.0f} {figures}")
        failed += [kind] * (found[-1]["ratio"] < LEAST_RATIO[kind])
        failed += [f"{kind}: memory"] * (found[-1]["megabytes"] - found[0]["megabytes"] > MOST_GROWTH_MB)
    if given.check and failed:
        sys.exit(f"beyond its limit: {', '.join(failed)}")


if __name__ == "__main__":
    main()
