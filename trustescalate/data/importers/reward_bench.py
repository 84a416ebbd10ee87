"""Read RewardBench (also in the format of LLaMA-Factory), RewardBench 2, and EvalBiasBench.

The better response always stands first, so sides are drawn. RewardBench 2 has several responses of each kind:
each better one with each worse one is a pair, all in one group. Its four-way scores are not computed here.
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import answer, get, has, name, text
from trustescalate.data.importers.files import Foreign, Unusable
from trustescalate.data.importers.preferences import DRAWN, preferred
from trustescalate.data.importers.verdicts import pairwise, side


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise()
    notes.assume(DRAWN)
    for part, read in (("pairs", _pair), ("ranked", _ranked), ("bias", _biases)):
        for file in files[part]:
            yield from each(file, read)


def _pair(row: Any) -> Iterator[Found]:
    """A row of RewardBench, or of RewardBench 2, where both sides are lists."""
    known, prompt, meta = name(row, "id"), text(row, "prompt"), {"subset": text(row, "subset")}
    if isinstance(get(row, "chosen"), list):
        better, worse = _texts(row, "chosen"), _texts(row, "rejected")
        for i, good in enumerate(better):
            for j, bad in enumerate(worse):
                yield preferred(prompt, good, bad, item_id=f"{known}|{i}|{j}", group=known, meta=meta)
        return
    models = text(row, "chosen_model"), text(row, "rejected_model")
    # Ids of RewardBench are numbered within a subset.
    item_id = f"{meta['subset']}|{known}"
    yield preferred(
        prompt, answer(row, "chosen"), answer(row, "rejected"), item_id=item_id, models=models, meta=meta
    )


def _ranked(row: Any) -> Iterator[Found]:
    responses = _texts(row, "output")
    if len(responses) != 2:
        raise Unusable(f"output holds {len(responses)} texts, not the better and the worse one")
    more = get(row, "input")
    prompt = "\n\n".join(
        [text(row, "instruction"), *([more] if isinstance(more, str) and more.strip() else [])]
    )
    yield preferred(prompt, *responses, item_id=name(row, "id"))


def _biases(value: Any) -> Iterator[Found]:
    """EvalBiasBench: lists by the name of a bias. An unusable row rejects the file, which is small."""
    for bias, rows in value.items():
        if not isinstance(rows, list):
            raise Unusable(f"{bias} is no list of rows")
        for place, row in enumerate(rows):
            label = side(get(row, "label"), ("1",), ("2",))
            if label not in ("A", "B"):
                raise Unusable(f"{bias}.{place}.label is not 1 or 2")
            texts = answer(row, "response1"), answer(row, "response2")
            better, worse = texts if label == "A" else texts[::-1]
            item_id = f"{bias}/{place}"
            yield preferred(text(row, "instruction"), better, worse, item_id=item_id, meta={"bias": bias})


def _texts(row: Any, key: str) -> tuple[str, ...]:
    values = get(row, key)
    is_list = isinstance(values, list) and bool(values)
    if not is_list or not all(isinstance(value, str) for value in values):
        raise Unusable(f"{key} is no list of texts")
    return tuple(values)


def _is_ranked(file: Foreign) -> bool:
    return has(file, "instruction", "input", "output") and isinstance(file.head[0]["output"], list)


def _is_bias(file: Foreign) -> bool:
    first = file.head[0]
    return (
        file.shape == "document"
        and isinstance(first, dict)
        and any(
            isinstance(rows, list)
            and rows
            and isinstance(rows[0], dict)
            and {"bias", "instruction", "response1", "response2", "label"} <= rows[0].keys()
            for rows in first.values()
        )
    )


REWARD_BENCH = Format(
    "reward_bench",
    "RewardBench, RewardBench 2, EvalBiasBench",
    {
        "pairs": lambda file: has(file, "id", "prompt", "chosen", "rejected", "subset"),
        "ranked": _is_ranked,
        "bias": _is_bias,
    },
    ("pairs", "ranked", "bias"),
    _read,
)
