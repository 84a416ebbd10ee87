"""Measure a million items with replayed votes, three tiers: peak memory and time of each command.

    python -m benchmarks.million [--items 1000000] [--folder FOLDER] [--commands check,run,…] [--kind plain]

A project of so many items, and one of a tenth, are written in FOLDER: 400 labelled items, three replayed
judges, four votes each. Each command runs in a process of its own; memory is its peak, with all that it
imports. `--kind`: items by themselves (plain), in clusters of three, with a guarantee for each of five
groups, judged on two criteria, under the claim "expected", or of five models that are ranked.

Limits: of a million items each command takes at most 600 MB, at most 1.5 times the memory of a tenth of the
items, and at most 12 times its time; `run`, `report` and `gate`, whose work is all of the items, at least 8.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

LABELLED = 400
MAX_MEMORY, MAX_TIMES = 600, 1.5
LEAST_TIME, MOST_TIME = {"run": 8, "report": 8, "gate": 8}, 12
SURE = {"small": 6, "medium": 8, "large": 9}
"""Of ten items, those on which a judge is sure, and right."""
COMMANDS = {
    "check": ["check"],
    "calibrate": ["calibrate"],
    "run": ["run"],
    "resume": ["run", "--resume", "latest"],
    "report": ["report"],
    "gate": ["gate"],
    "monitor": ["monitor"],
    "export": ["export", "--as", "parquet", "--to", "{out}"],
}
CRITERIA = ("style", "substance")
MODELS = "abcde"
KINDS = {
    "plain": "",
    "clusters": "",
    "groups": '[groups]\nby = "meta.topic"\n',
    "criteria": "".join(
        f'[[criteria]]\nname = "{name}"\nquestion = "Which is better in {name}?"\n' for name in CRITERIA
    ),
    "expected": "",
    "leaderboard": '[leaderboard]\nmodels = ["meta.first", "meta.second"]\nitem = "meta.question"\n',
}
"""What each kind of project adds to the configuration."""
GIVES = (0, 1, 3)
"""Exit codes of a command that worked: a gate or a monitor may say no."""
CONFIG = """version = 1
[task]
kind = "pairwise"
question = "Which response is better?"
[guarantee]
alpha = 0.1
delta = 0.1
[ensemble]
annotators = 2
shots = 2
[gate]
min_agreement = 0.5
"""


class Took(NamedTuple):
    """Peak memory in MB and seconds of a command."""

    memory: float
    seconds: float


def make(folder: Path, number: int, kind: str = "plain") -> None:
    """Write a project of this many items without labels, and `LABELLED` with one."""
    folder.mkdir(parents=True)
    judges = "".join(
        f'[[judges]]\nname = "{name}"\nbackend = "replay"\nvotes = "{name}.jsonl"\n' for name in SURE
    )
    config = CONFIG + KINDS[kind] + judges
    if kind == "expected":
        config = config.replace("delta = 0.1\n", 'claim = "expected"\n')
    (folder / "trustescalate.toml").write_text(config, encoding="utf-8")
    total, asked = number + LABELLED, CRITERIA if kind == "criteria" else ("",)
    _write(folder / "items.jsonl", (_item(n, kind) for n in range(total)))
    labels = (
        {"item_id": _id(n), "annotator": "ann", "label": "AB"[n % 2]} | ({"criterion": name} if name else {})
        for n in range(LABELLED)
        for name in asked
    )
    _write(folder / "annotations.jsonl", labels)
    for name, sure in SURE.items():
        votes = (_judgment(place, name, sure, each) for place in range(total) for each in asked)
        _write(folder / f"{name}.jsonl", votes)


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)


def _id(place: int) -> str:
    return f"item-{place:07d}"


def _item(place: int, kind: str) -> dict[str, object]:
    said = [f"{word} {place * 7 % 1000}, for the reason that was given" for word in ("Perhaps", "Surely")]
    item: dict[str, object] = {
        "id": _id(place),
        "prompt": f"Question {place}: why is it so?",
        "responses": said,
    }
    if kind == "clusters":
        item["group"] = f"source {place // 3}"
    if kind == "groups":
        item["meta"] = {"topic": "abcde"[place % 5]}
    if kind == "leaderboard":
        first, second = MODELS[place % 5], MODELS[(place % 5 + 1 + place // 5 % 4) % 5]
        item["meta"] = {"first": first, "second": second, "question": place // 4}
    return item


def _judgment(place: int, name: str, sure: int, criterion: str) -> dict[str, object]:
    """Votes that are right where the judge is sure, and half of the time elsewhere."""
    number = place * 7919 % 1000
    is_sure = number % 10 < sure
    right = is_sure or number % 20 < 10
    label = "AB"[(place % 2) ^ (not right)]
    p = (0.9 if is_sure else 0.55) + number / 20_000
    probs = {label: round(p, 5), "B" if label == "A" else "A": round(1 - p, 5)}
    usage = {"calls": 1, "input_tokens": 300, "output_tokens": 1}
    votes = [
        {"exemplar_set": member, "order": order, "probs": probs, "usage": usage, "cost": 0.0002}
        for member in range(2)
        for order in ("AB", "BA")
    ]
    row = f"{_id(place)}#{criterion}" if criterion else _id(place)
    return {"item_id": row, "judge": name, "fingerprint": name * 8, "votes": votes, "planned": 4}


def run(folder: Path, words: list[str]) -> Took:
    """Run a command in a process of its own. Raises RuntimeError where it fails."""
    out = folder / f"{words[0]}.parquet"
    out.unlink(missing_ok=True)  # no export overwrites a file
    command = [sys.executable, "-m", "trustescalate", *(word.replace("{out}", str(out)) for word in words)]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in GIVES:
            log.seek(0)
            raise RuntimeError(f"{' '.join(words)}: exit {process.returncode}: {log.read()[-2000:].decode()}")
    return Took(usage.ru_maxrss / 1024, time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--kind", choices=KINDS, default="plain")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as room:
        home = options.folder or Path(room)
        folders = [home / f"{options.kind}-{number}" for number in (options.items // 10, options.items)]
        for folder, number in zip(folders, (options.items // 10, options.items), strict=True):
            if not folder.exists():
                make(folder, number, options.kind)
        for name in options.commands.split(","):
            tenth, whole = (run(folder, COMMANDS[name]) for folder in folders)
            memory, times = whole.memory / tenth.memory, whole.seconds / tenth.seconds
            bad = [f"over {MAX_MEMORY} MB"] * (whole.memory > MAX_MEMORY)
            bad += [f"over {MAX_TIMES} times the memory"] * (memory > MAX_TIMES)
            bad += [f"over {MOST_TIME} times as long"] * (times > MOST_TIME)
            bad += [f"under {LEAST_TIME.get(name)} times as long"] * (times < LEAST_TIME.get(name, 0))
            failed = failed or bool(bad)
            print(
                f"{name}: {tenth.memory:.0f} -> {whole.memory:.0f} MB ({memory:.2f} times), "
                f"{tenth.seconds:.1f} -> {whole.seconds:.1f} s ({times:.1f} times) {'; '.join(bad)}",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
