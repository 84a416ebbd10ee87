"""Convert shared folders of human labels and recorded verdicts into project folders.

    python -m benchmarks.shared_data ../shared/data/toe_alpacaeval OUT [--labelled N] [--seed S]

writes OUT/items.jsonl, OUT/annotations.jsonl, OUT/votes/<judge>.jsonl and OUT/trustescalate.toml, whose
judges replay the recorded votes. With --labelled, the annotations of only N items go to annotations.jsonl,
the rest to held_out_annotations.jsonl. Nothing of the data belongs into the repository: licences differ.
"""

import argparse
import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trustescalate.records import Annotation, Item, Judgment, Vote
from trustescalate.records.jsonl import write_rows

Row = dict[str, Any]
Texts = Mapping[str, str]
EMPTY = "(empty response)"


class Source(NamedTuple):
    """How a folder is read: its [task], the judges cheapest first with USD per call, and what is clustered.

    `texts` names a second file of responses and `key`, `text` say how its rows are read.
    """

    task: Mapping[str, Any]
    judges: Mapping[str, float]
    group: str | None = None
    texts: str | None = None
    key: Callable[[Row], str] = str
    text: Callable[[Row], str] = str
    refers: tuple[Callable[[Row], str], ...] = ()


def _pairwise(question: str, ties: str) -> Mapping[str, Any]:
    return {"kind": "pairwise", "question": question, "ties": ties}


SOURCES: Mapping[str, Source] = {
    "toe_alpacaeval": Source(
        _pairwise("Which response would a human reader prefer?", "drop"),
        {"mistral-7b-instruct": 0.0002, "gpt-3.5-turbo": 0.001, "gpt-4-turbo": 0.02},
    ),
    "nq301_qa": Source(
        {"kind": "binary", "question": "Is this answer acceptable?", "labels": ["1", "0"]},
        {"bem": 0.00001, "text-davinci-003": 0.005, "gpt-4": 0.02},
        group="question",
    ),
    "pandalm": Source(
        _pairwise("Which response follows the instruction better?", "class"),
        {"pandalm-7b": 0.0002, "gpt-3.5-turbo": 0.001},
    ),
    "llmbar": Source(
        _pairwise("Which response follows the instruction?", "drop"),
        {
            "Falcon": 0.0005,
            "LLaMA2": 0.0006,
            "PaLM2": 0.0008,
            "ChatGPT-0301": 0.001,
            "ChatGPT": 0.001,
            "GPT-4": 0.02,
        },
    ),
    "prd_vicuna80": Source(
        _pairwise("Which answer is better?", "class"),
        {"vicuna-13b": 0.0002, "gpt35": 0.001, "bard": 0.001, "claude": 0.005, "gpt4": 0.02},
        group="question",
        texts="answers",
        key=lambda row: f"{row['system']} {row['question']}",
        text=lambda row: row["text"],
        refers=(
            lambda meta: f"{meta['system_a']} {meta['question']}",
            lambda meta: f"{meta['system_b']} {meta['question']}",
        ),
    ),
    "summhay_coverage": Source(
        {"kind": "rating", "question": "How far does the summary cover the insight?", "scale": [0, 2]},
        {
            "gpt-3.5": 0.001,
            "claude-3-haiku": 0.001,
            "gemini-1.5-pro": 0.005,
            "gpt-4o": 0.01,
            "claude-3-opus": 0.03,
            "gpt-4o-9shot": 0.03,
        },
        group="summary",
        texts="summaries",
        key=lambda row: str(row["summary"]),
        text=lambda row: "\n".join(row["lines"]),
        refers=(lambda meta: str(meta["summary"]),),
    ),
    "mtbench_human": Source(
        _pairwise("Which assistant answers better?", "class"),
        {"gpt-4": 0.02},
        group="question_id",
        texts="conversations",
        key=lambda row: row["conv"],
        text=lambda row: row["text"],
        refers=(lambda meta: meta["conv_a"], lambda meta: meta["conv_b"]),
    ),
}


def convert(folder: Path, out: Path, labelled: int | None = None, seed: int = 0) -> None:
    """Write `folder`, one of `SOURCES` by its name, as our files under `out`."""
    source = SOURCES[folder.name]
    texts = {source.key(row): source.text(row) for row in _read(folder, source.texts)} if source.texts else {}
    rows = [row for row in _read(folder, "items") if row["meta"].get("judged", True)]
    write_rows(out / "items.jsonl", [_item(row, source, texts) for row in rows])
    _write_annotations(out, rows, len(rows) if labelled is None else labelled, seed)
    recorded: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in _read(folder, "judgments"):
        recorded[row["judge"]][row["item"]].append(row)
    for judge in source.judges:
        write_rows(out / "votes" / f"{judge}.jsonl", _judgments(folder.name, source, judge, recorded[judge]))
    (out / "trustescalate.toml").write_text(_config(source), encoding="utf-8")


def _read(folder: Path, name: str) -> Iterator[Row]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _item(row: Row, source: Source, texts: Texts) -> Item:
    meta = row["meta"]
    if source.texts:
        responses = [texts[refer(meta)] for refer in source.refers]
    else:
        responses = [row[key] for key in ("response", "response_a", "response_b") if key in row]
    group = None if source.group is None else str(meta[source.group])
    prompt = row.get("prompt") or f"Question {group}, turn {meta.get('turn', 1)}"
    return Item(
        row["id"], prompt, tuple(str(text).strip() or EMPTY for text in responses), group=group, meta=meta
    )


def _write_annotations(out: Path, rows: list[Row], labelled: int, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    first = {rows[i]["id"] for i in order[:labelled]}
    notes: dict[bool, list[Annotation]] = {True: [], False: []}
    for row in rows:
        notes[row["id"] in first] += [
            Annotation(row["id"], opinion["annotator"], str(opinion["label"])) for opinion in row["labels"]
        ]
    write_rows(out / "annotations.jsonl", notes[True])
    write_rows(out / "held_out_annotations.jsonl", notes[False])


def _judgments(name: str, source: Source, judge: str, by_item: Mapping[str, list[Row]]) -> Iterator[Judgment]:
    fingerprint = hashlib.sha256(f"{judge}\n{name}".encode()).hexdigest()
    planned = max(len(rows) for rows in by_item.values())
    for item, rows in by_item.items():
        # Votes of one prompt, or one run of it, are one exemplar set: they differ in the order only.
        kinds = sorted({_exemplars(row) for row in rows})
        rows.sort(key=lambda row: (_exemplars(row), row.get("order") or ""))
        votes = tuple(_vote(row, kinds.index(_exemplars(row)), source) for row in rows)
        yield Judgment(item, judge, fingerprint, votes, planned)


def _exemplars(row: Row) -> tuple[str, int]:
    return row.get("prompt_variant", ""), row.get("sample", 0)


def _vote(row: Row, exemplar_set: int, source: Source) -> Vote:
    order: Any = row.get("order") or ""
    if "probs" in row:
        return Vote(exemplar_set, order, row["probs"], channel="logprobs")
    verdict, raw = row.get("verdict"), row.get("raw") or str(row.get("verdict", ""))
    if verdict is None or (verdict == "tie" and source.task.get("ties") == "drop"):
        return Vote(exemplar_set, order, {}, raw=raw, failure="none", channel="samples")
    if raw == "tie (inconsistent)":  # the two orders named different winners: half a vote each
        return Vote(exemplar_set, order, {"A": 0.5, "B": 0.5}, raw=raw, channel="samples")
    return Vote(exemplar_set, order, {str(verdict): 1.0}, raw=raw, channel="samples")


def _config(source: Source) -> str:
    # JSON's strings, numbers and lists are TOML's.
    lines = [
        "version = 1",
        "",
        "[task]",
        *(f"{key} = {json.dumps(value)}" for key, value in source.task.items()),
    ]
    lines += ["", "[ensemble]", "annotators = 1", "shots = 0"]
    for judge, price in source.judges.items():
        lines += ["", "[[judges]]", f"name = {json.dumps(judge)}", 'backend = "replay"']
        lines += [f"votes = {json.dumps(f'votes/{judge}.jsonl')}", f"price = {{ request = {price:f} }}"]
    return "\n".join([*lines, ""])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a folder of shared data as our own files.")
    parser.add_argument("folder", type=Path, help=f"one of {', '.join(SOURCES)}")
    parser.add_argument("out", type=Path)
    parser.add_argument("--labelled", type=int, help="annotate only so many items (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="which items are annotated")
    options = parser.parse_args()
    convert(options.folder, options.out, options.labelled, options.seed)


if __name__ == "__main__":
    main()
