"""Read JudgeBench: pairs with an objective label, and judges' outputs. The second game is swapped.

Source: github ScalerLab/JudgeBench, data/ and outputs/.
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import get, has, name, text
from trustescalate.data.importers.files import Unusable
from trustescalate.data.importers.verdicts import SWAPPED, judged, pairwise, verdict
from trustescalate.records import TIE, Annotation, Item, Label, Vote

OBJECTIVE = "objective"
SHOWN = {"A>B": "A", "B>A": "B", "A=B": TIE, "A>>B": "A", "B>>A": "B"}


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise("Which response is correct?")
    notes.assume("labels are objective (which answer is right), not human judgements")
    for part in ("pairs", "outputs"):
        for file in files[part]:
            yield from each(file, _pair)


def _pair(row: Any) -> Iterator[Found]:
    item_id, model = text(row, "pair_id"), text(row, "response_model")
    responses = text(row, "response_A"), text(row, "response_B")
    meta = {"model_a": model, "model_b": model, "source": name(row, "source")}
    group = None if row.get("original_id") is None else name(row, "original_id")
    item = Item(item_id, text(row, "question"), responses, None, group, meta)
    label = SHOWN.get(text(row, "label"))
    if label not in ("A", "B"):
        raise Unusable(f"label is {row['label']!r}, not A>B or B>A")
    judgments = (judged(item_id, _judge(row), _votes(row)),) if "judgments" in row else ()
    yield Found(item, (Annotation(item_id, OBJECTIVE, label),), judgments)


def _judge(row: Any) -> str:
    """The prompt's name and the model's, which stands in each game that was played."""
    models = {
        game["judgment"]["judge_model"]
        for game in _games(row)
        if isinstance(game, dict)
        and isinstance(game.get("judgment"), dict)
        and isinstance(game["judgment"].get("judge_model"), str)
    }
    if len(models) != 1:
        raise Unusable("judgments do not name one judge_model")
    return f"{text(row, 'judge_name')} {models.pop()}"


def _votes(row: Any) -> list[Vote]:
    return [_vote(game, order) for game, order in zip(_games(row), ("AB", "BA"), strict=False)]


def _games(row: Any) -> list[Any]:
    games = get(row, "judgments")
    if not isinstance(games, list) or not 1 <= len(games) <= 2:
        raise Unusable("judgments are not one game or two")
    return games


def _vote(game: Any, order: str) -> Vote:
    fields = game if isinstance(game, dict) else {}
    decision, reply = fields.get("decision"), fields.get("judgment")
    label: Label | None = SHOWN.get(decision) if isinstance(decision, str) else None
    if label is not None and order == "BA":
        label = SWAPPED[label]
    return verdict(label, raw=reply.get("response") if isinstance(reply, dict) else "", order=order)


JUDGEBENCH = Format(
    "judgebench",
    "JudgeBench: pairs, and judges' outputs on them",
    {
        "outputs": lambda file: has(file, "pair_id", "response_A", "response_B", "judgments"),
        "pairs": lambda file: has(file, "pair_id", "original_id", "response_A", "response_B", "label"),
    },
    ("outputs", "pairs"),
    _read,
)
