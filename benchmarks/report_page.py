"""Measure the report of large runs: its time against reading the run, its memory, and its page in Chromium.

    python -m benchmarks.report_page [--items 100000] [--page-items 5000] [--folder FOLDER]

Each run is made once in FOLDER from replayed votes: 400 labelled items, two judges, eight votes each in both
orders. "read" is the time of `RunFolder.load`, "report" that of all that `trustescalate report` does, which
reads the run and [data] too. Peak memory is that of a whole process. The page is opened and filtered in
headless Chromium, as a ratio to an empty page.

Limits: the page opens and filters within 1 s and has at most 5 MB; of 100,000 items the report takes at most
5 times the time of reading, and at most 1.5 times the memory of 10,000.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from trustescalate.cascade.run_folder import find_run
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Item, Judgment, Usage, Vote
from trustescalate.report.html import MAX_BYTES

LABELLED = 400
TEXT = "the answer names a cause and one example of it which a reader can check in the text above"
WORDS = TEXT.split()
MAX_TIMES, MAX_SECONDS, MAX_MEMORY = 5.0, 1.0, 1.5
TABLES = """
[task]
kind = "pairwise"
question = "Which response is better?"
[guarantee]
alpha = 0.2
delta = 0.1
[ensemble]
annotators = 4
shots = 2
"""
CONFIG = f"""version = 1
{TABLES}
[data]
items = "items.jsonl"
annotations = "annotations.jsonl"
[[judges]]
name = "small"
backend = "replay"
votes = "votes-1.jsonl"
[[judges]]
name = "large"
backend = "replay"
votes = "votes-2.jsonl"
"""


class Took(NamedTuple):
    """Seconds to read the rows and for the whole report, peak memory in MB after each, and its page."""

    read: float
    report: float
    memory_read: float
    memory: float
    page: str


def make(folder: Path, number: int) -> None:
    """Make a certified run of this many items."""
    items = [_item(place) for place in range(LABELLED + number)]
    labels = [Annotation(item.id, "ann", "AB"[place % 2]) for place, item in enumerate(items[:LABELLED])]
    judges = [
        ReplayJudge(name, list(_votes(items, name, right))) for name, right in (("small", 8), ("large", 9))
    ]
    project = Project.from_records(items, labels, tomllib.loads(TABLES), judges=judges, folder=folder)
    asyncio.run(project.calibrate())
    asyncio.run(project.run())
    (folder / "trustescalate.toml").write_text(CONFIG, encoding="utf-8")


def _item(place: int) -> Item:
    texts = (" ".join(WORDS[(place * k + n) % len(WORDS)] for n in range(60 + place % 40)) for k in (3, 7))
    return Item(f"item-{place:06d}", f"Question {place}: why is it so?", tuple(texts))


def _votes(items: list[Item], name: str, right: int) -> Iterator[Judgment]:
    """Votes that are right for `right` of ten items, and the surer the more often."""
    for place, item in enumerate(items):
        wrong = (place * 7) % 10 >= right
        label = "AB"[(place % 2) ^ wrong]
        sure = (0.55 if wrong else 0.62) + (place % 37) / 100
        other = "B" if label == "A" else "A"
        votes = tuple(
            Vote(member, order, {label: sure, other: 1 - sure}, usage=Usage(1, 300, 0, 1), cost=0.0002)
            for member in range(4)
            for order in ("AB", "BA")
        )
        yield Judgment(item.id, name, name * 8, votes, 8)


def measure(folder: Path) -> Took:
    """Read and report the run of a folder, in this process."""
    start = time.perf_counter()
    find_run(folder).load()
    read, memory = time.perf_counter() - start, _peak()
    start = time.perf_counter()
    _, page = Project.open(folder / "trustescalate.toml").report()
    return Took(read, time.perf_counter() - start, memory, _peak(), str(page))


def _peak() -> float:
    """Of this program: `ru_maxrss` would begin with that of the process that started it."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def apart(folder: Path) -> Took:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.report_page", "--measure", str(folder)]
    return Took(*json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


OPEN = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd - t.startTime;"
FILTER = """
const done = arguments[arguments.length - 1], start = performance.now();
const field = document.getElementById(arguments[0]);
field.value = arguments[1];
field.dispatchEvent(new Event(field.type === 'search' ? 'input' : 'change'));
const shown = document.getElementById('items-shown'), before = shown.textContent;
new MutationObserver(() => requestAnimationFrame(() => done(performance.now() - start)))
  .observe(shown, {childList: true, characterData: true, subtree: true});
if (field.type !== 'search') requestAnimationFrame(() => done(performance.now() - start));
"""


def browse(page: Path, room: Path) -> dict[str, float]:
    """Milliseconds until a page is open, filtered by state, and searched, the median of five times."""
    from tests.support.browser import start_browser

    empty = room / "empty.html"
    empty.write_text("<!DOCTYPE html><title>empty</title><p>Nothing.", "utf-8")
    browser = start_browser(room / "profile")
    took: dict[str, list[float]] = {"empty": [], "open": [], "filter": [], "search": []}
    try:
        for _ in range(5):
            for name, path in (("empty", empty), ("open", page)):
                browser.get(path.as_uri())
                took[name].append(browser.execute_script(OPEN))
            took["filter"].append(browser.execute_async_script(FILTER, "items-state", "abstained"))
            browser.get(page.as_uri())
            took["search"].append(browser.execute_async_script(FILTER, "items-search", "cause and one"))
    finally:
        browser.quit()
    return {name: median(each) for name, each in took.items()}


def folder_of(home: Path, number: int) -> Path:
    """The folder of a run of this many items, made where it is not there."""
    folder = home / f"run-{number}"
    if not (folder / "runs").exists():
        make(folder, number)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--page-items", type=int, default=5_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    with tempfile.TemporaryDirectory() as room:
        home = options.folder or Path(room)
        failed = False
        tenth = 0.0
        for number in (options.page_items, options.items // 10, options.items):
            folder = folder_of(home, number)
            took = apart(folder)
            size = Path(took.page).stat().st_size
            page = browse(Path(took.page), Path(room))
            times = took.report / took.read
            print(f"{number:,} items: page {size / 1e6:.2f} MB (limit {MAX_BYTES / 1e6:.0f})")
            print(
                f"  read {took.read:.2f} s, report {took.report:.2f} s: {times:.2f} times (limit {MAX_TIMES} "
                f"at {options.items:,})"
            )
            print(f"  peak memory {took.memory:.0f} MB, {took.memory_read:.0f} to read")
            for name in ("open", "filter", "search"):
                ratio = page[name] / page["empty"]
                print(f"  {name:<6} {page[name]:5.0f} ms, {ratio:.1f} times an empty page")
            if number == options.items:
                growth = took.memory / tenth
                print(f"peak memory {growth:.2f} times that of {number // 10:,} items (limit {MAX_MEMORY})")
                failed |= growth > MAX_MEMORY or times > MAX_TIMES
            tenth = took.memory
            slow = number == options.page_items and max(page["open"], page["filter"]) > 1000 * MAX_SECONDS
            failed |= size > MAX_BYTES or slow
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
