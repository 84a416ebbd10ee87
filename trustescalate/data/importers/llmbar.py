"""Read LLMBar: pairs with one objective label, and verdicts of its evaluators, in the items' own frame.

The files name neither items nor judges: both come from the names of the files and the place of an item. A
result of several rounds counts by its last one. Source: github princeton-nlp/LLMBar.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import answer, get, has, text
from trustescalate.data.importers.files import Foreign, Unusable
from trustescalate.data.importers.margins import SCORED, scored_vote
from trustescalate.data.importers.verdicts import judged, pairwise, side, verdict
from trustescalate.records import Annotation, Item, Vote

GOLD = "gold"
ORDERS = (("swap = False", "AB"), ("swap = True", "BA"))


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise("Which response follows the instruction?")
    notes.assume("names of items and judges are those of the files and folders")
    if files["results"]:
        notes.assume(SCORED)
    ids: dict[tuple[str, str, str], str] = {}
    for file in files["dataset"]:
        yield from each(file, _pair_reader(_subset(file.path), ids))
    for file in files["results"]:
        yield from each(file, _result_reader(file.path, ids))


def _pair_reader(subset: str, ids: dict[tuple[str, str, str], str]) -> Callable[[Any], Iterable[Found]]:
    place = -1

    def read(row: Any) -> Iterator[Found]:
        nonlocal place
        place += 1
        texts = _texts(row)
        item_id = ids.setdefault(texts, f"{subset}/{place}")
        yield _found(item_id, subset, texts, row)

    return read


def _result_reader(path: Path, ids: dict[tuple[str, str, str], str]) -> Callable[[Any], Iterable[Found]]:
    subset, judge = _subset(path), _judge(path)

    def read(row: Any) -> Iterator[Found]:
        texts = _texts(row)
        mark = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:12]
        item_id = ids.setdefault(texts, f"{subset}/{mark}")
        last = get(row, "results", -1)
        votes = [_vote(last, key, order) for key, order in ORDERS]
        yield _found(item_id, subset, texts, row)._replace(judgments=(judged(item_id, judge, votes),))

    return read


def _texts(row: Any) -> tuple[str, str, str]:
    return text(row, "input"), answer(row, "output_1"), answer(row, "output_2")


def _found(item_id: str, subset: str, texts: tuple[str, str, str], row: Any) -> Found:
    label = side(get(row, "label"), ("1",), ("2",))
    if label is None:
        raise Unusable(f"label is {get(row, 'label')!r}, not 1 or 2")
    item = Item(item_id, texts[0], texts[1:], meta={"subset": subset})
    return Found(item, (Annotation(item_id, GOLD, label),))


def _vote(last: Any, key: str, order: str) -> Vote:
    winner = side(get(last, key, "winner"), ("1",), ("2",))
    scores = [last[name] for name in ("score_1", "score_2") if name in last]
    unread = any(not isinstance(score, list) or not _is_number(score[:1]) for score in scores)
    if len(scores) == 2 and not unread and winner is not None:  # each response was scored by itself
        numbers = [float(score[0]) for score in scores]
        vote = scored_vote(numbers, winner == "A", raw=str(numbers), order="AB")
        return replace(vote, order=cast(Literal["AB", "BA"], order))
    completion = last[key].get("completion")
    raw = completion[0] if isinstance(completion, list) and completion else ""
    return verdict(None if unread else winner, raw=raw, order=order)


def _is_number(score: list[Any]) -> bool:
    return bool(score) and isinstance(score[0], str) and score[0].strip().replace(".", "", 1).isdigit()


def _subset(path: Path) -> str:
    """ "Natural" of Natural/dataset.json, Natural.dataset.json and Natural.GPT-4.Vanilla.result.json."""
    name = path.name.removesuffix(".gz").removesuffix(".json")
    if "evaluators" in path.parts:
        return path.parts[path.parts.index("evaluators") - 1]
    return path.parent.name if name in ("dataset", "result") else name.partition(".")[0]


def _judge(path: Path) -> str:
    """ "GPT-4 Vanilla" of …/evaluators/GPT-4/Vanilla/result.json and of Natural.GPT-4.Vanilla.result.json."""
    name = path.name.removesuffix(".gz").removesuffix(".json").removesuffix("result").rstrip(".")
    if "evaluators" in path.parts:
        return " ".join(path.parts[path.parts.index("evaluators") + 1 : -1]) or "evaluator"
    return " ".join(name.split(".")[1:]) or "evaluator"


def _is_result(file: Foreign) -> bool:
    return has(file, "input", "output_1", "output_2", "label", "results")


LLMBAR = Format(
    "llmbar",
    "LLMBar: dataset.json, and result.json of its evaluators",
    {
        "results": _is_result,
        "dataset": lambda file: (
            set(file.head[0]) == {"input", "output_1", "output_2", "label"}
            if isinstance(file.head[0], dict)
            else False
        ),
    },
    ("dataset", "results"),
    _read,
    kept=("dataset", "results"),
)
