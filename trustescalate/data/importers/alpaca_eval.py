"""Read AlpacaEval annotations: preference 1 is output_1, 2 is output_2, else 1 + P(output_2 is better).

Identical outputs were never shown to the judge and are recorded as 1.5, in old files as 0: a tie. null and -1
are unreadable verdicts. Human cross-annotations have an annotator_index. Source: github tatsu-
lab/alpaca_eval, whose README inverts the probability; its own win rates do not.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import get, has, name, text
from trustescalate.data.importers.files import Foreign, Record, Unusable
from trustescalate.data.importers.verdicts import judged, pairwise, verdict
from trustescalate.records import TIE, Annotation, Item, Label, Vote


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise("Which output would a human reader prefer?")
    notes.assume("an item is an instruction with its two generators; A is output_1")
    for file in files["annotations"]:
        yield from each(file, _row_reader(_is_weighted(file)))


def _row_reader(weighted: bool) -> Callable[[Any], Iterable[Found]]:
    def read(row: Any) -> Iterator[Found]:
        instruction, models = text(row, "instruction"), (name(row, "generator_1"), name(row, "generator_2"))
        outputs = [get(row, key) for key in ("output_1", "output_2")]
        if not all(isinstance(output, str) for output in outputs):
            raise Unusable("output_1 and output_2 must be texts")
        mark = hashlib.sha256(instruction.encode("utf-8", "replace")).hexdigest()[:12]
        item_id = f"{mark}|{models[0]}|{models[1]}"
        meta = {"model_a": models[0], "model_b": models[1]}
        item = Item(item_id, instruction, tuple(outputs), None, mark, meta)
        preference = get(row, "preference")
        if "annotator_index" in row:
            label = _label(preference)
            notes = () if label is None else (Annotation(item_id, name(row, "annotator_index"), label),)
            yield Found(item, notes)
            return
        vote = _vote(preference, weighted, row)
        yield Found(item, judgments=(judged(item_id, text(row, "annotator"), [vote]),))

    return read


def _is_weighted(file: Foreign) -> bool:
    """Whether preferences are probabilities: some of all are no verdict."""
    rows = (record.value for record in file.records() if isinstance(record, Record))
    return any(
        isinstance(row, dict)
        and isinstance(row.get("preference"), float)
        and abs(row["preference"]) < math.inf
        and row["preference"] not in (-1, 0, 1, 1.5, 2)
        for row in rows
    )


def _vote(preference: Any, weighted: bool, row: Any) -> Vote:
    raw = row.get("raw_completion", row.get("preference_raw_completion"))
    price = row.get("price_per_example", row.get("preference_price_per_example"))
    label, share = _label(preference), _share(preference)
    vote = verdict(label, raw=raw, cost=price)
    if not weighted:
        return vote
    probs = vote.probs
    if share is not None and label != TIE:
        probs = {side: p for side, p in (("A", 1 - share), ("B", share)) if p > 0}
    return replace(vote, probs=probs, channel="logprobs")


def _share(preference: Any) -> float | None:
    """P(output_2 is better), if the preference is one."""
    if isinstance(preference, bool) or not isinstance(preference, int | float):
        return None
    return float(preference) - 1 if 1 <= preference <= 2 else None


def _label(preference: Any) -> Label | None:
    if preference == 0 and not isinstance(preference, bool):
        return TIE
    share = _share(preference)
    if share is None:
        return None
    return TIE if share == 0.5 else "B" if share > 0.5 else "A"


ALPACA_EVAL = Format(
    "alpaca_eval",
    "AlpacaEval annotations",
    {
        "annotations": lambda file: has(
            file, "instruction", "output_1", "output_2", "generator_1", "generator_2", "preference"
        )
    },
    ("annotations",),
    _read,
)
