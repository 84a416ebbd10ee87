"""Read PandaLM's test set: three labels per pair, and judges' verdicts in separate files, joined by idx.

Every pair was shown in one order. Source: github WeOpenML/PandaLM, data/.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import get, has, name, text
from trustescalate.data.importers.files import Foreign, Unusable
from trustescalate.data.importers.verdicts import judged, pairwise, verdict
from trustescalate.records import TIE, Annotation, Item, Label, Vote

ANNOTATORS = ("annotator1", "annotator2", "annotator3")
VERDICTS = {"0": TIE, "tie": TIE, "1": "A", "2": "B"}


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise("Which response follows the instruction better?")
    notes.assume("the columns annotator1 to annotator3 are human labels")
    votes: dict[str, dict[str, Vote]] = defaultdict(dict)
    for file in files["results"]:
        yield from each(file, _collector(_judge(file.path), votes))
    for file in files["testset"]:
        yield from each(file, lambda row: _pair(row, votes))


def _collector(judge: str, votes: dict[str, dict[str, Vote]]) -> Callable[[Any], Iterable[Found]]:
    def read(row: Any) -> Iterable[Found]:
        idx, key = name(row, "idx"), _result_key(row)
        if judge in votes[idx]:
            raise Unusable(f"idx {idx} was judged by {judge} before")
        result, reason = get(row, key), row.get(key.replace("_result", "_reason"))
        raw = reason if isinstance(reason, str) else str(result)
        votes[idx][judge] = verdict(_label(result), raw=raw, order="AB")
        return ()

    return read


def _pair(row: Any, votes: dict[str, dict[str, Vote]]) -> Iterator[Found]:
    idx, models = name(row, "idx"), text(row, "cmp_key").split("_", 1)
    shown = [get(row, key) for key in ("input", "response1", "response2")]
    if not all(isinstance(value, str) for value in shown):
        raise Unusable("input, response1 and response2 must be texts")
    instruction, context = text(row, "instruction"), shown[0]
    prompt = f"{instruction}\n\n{context}" if context.strip() else instruction
    meta = {"model_a": models[0], "model_b": models[-1]}
    item = Item(idx, prompt, tuple(shown[1:]), None, prompt, meta)
    notes = []
    for who in ANNOTATORS:
        label = _label(get(row, who))
        if label is None:
            raise Unusable(f"{who} is {row[who]!r}, not 0, 1 or 2")
        notes.append(Annotation(idx, who, label))
    rows = tuple(judged(idx, judge, [vote]) for judge, vote in votes.get(idx, {}).items())
    yield Found(item, tuple(notes), rows)


def _label(value: Any) -> Label | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return VERDICTS.get(str(value).strip().casefold())


def _result_key(row: Any) -> str:
    keys = [key for key in row if key.endswith("_result")] if isinstance(row, dict) else []
    if len(keys) != 1:
        raise Unusable("no field ends in _result")
    return str(keys[0])


def _judge(path: Path) -> str:
    return re.sub(r"-testset-v\d+$", "", path.name.removesuffix(".gz").removesuffix(".json"))


def _is_result(file: Foreign) -> bool:
    first = file.head[0]
    return has(file, "idx") and not has(file, "annotator1") and any(key.endswith("_result") for key in first)


PANDALM = Format(
    "pandalm",
    "PandaLM's test set, and judges' results on it",
    {"testset": lambda file: has(file, "idx", "response1", "response2", *ANNOTATORS), "results": _is_result},
    ("testset",),
    _read,
    kept=("results",),
)
