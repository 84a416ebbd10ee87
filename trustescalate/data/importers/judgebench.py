"""Read JudgeBench: pairs with an objective label, and judges' outputs. The second game is swapped.

Grades and scores are confidences (`margins`).
Source: github ScalerLab/JudgeBench, data/ and outputs/.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import answer, get, has, name, text
from trustescalate.data.importers.files import Record, Unusable
from trustescalate.data.importers.margins import (
    GRADED,
    SCORED,
    any_strong,
    grade_share,
    graded_vote,
    scored_vote,
)
from trustescalate.data.importers.verdicts import judged, pairwise
from trustescalate.records import Annotation, Item, Label, Vote

OBJECTIVE = "objective"
SHOWN: dict[str, Label] = {"A>B": "A", "B>A": "B", "A>>B": "A", "B>>A": "B"}


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise("Which response is correct?")
    notes.assume("labels are objective (which answer is right), not human judgements")
    for file in files["pairs"]:
        yield from each(file, lambda row: _pair(row, False))
    for file in files["outputs"]:
        graded = any_strong(
            (decision, _reply(game))
            for record in file.records()
            if isinstance(record, Record) and isinstance(record.value, dict)
            for game in _list(record.value.get("judgments"))
            for decision in [game.get("decision") if isinstance(game, dict) else None]
        )
        if graded:
            notes.assume(GRADED)
        yield from each(file, partial(_pair, graded=graded, notes=notes))


def _pair(row: Any, graded: bool, notes: Notes | None = None) -> Iterator[Found]:
    item_id, model = text(row, "pair_id"), text(row, "response_model")
    responses = answer(row, "response_A"), answer(row, "response_B")
    meta = {"model_a": model, "model_b": model, "source": name(row, "source")}
    group = None if row.get("original_id") is None else name(row, "original_id")
    item = Item(item_id, text(row, "question"), responses, None, group, meta)
    label = SHOWN.get(text(row, "label"))
    if label not in ("A", "B"):
        raise Unusable(f"label is {row['label']!r}, not A>B or B>A")
    judgments = (judged(item_id, _judge(row), _votes(row, graded, notes)),) if "judgments" in row else ()
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


def _votes(row: Any, graded: bool, notes: Notes | None) -> list[Vote]:
    games = _games(row)
    if notes is not None and any(_scores(game) is not None for game in games):
        notes.assume(SCORED)
    return [_vote(game, order, graded) for game, order in zip(games, ("AB", "BA"), strict=False)]


def _games(row: Any) -> list[Any]:
    games = get(row, "judgments")
    if not isinstance(games, list) or not 1 <= len(games) <= 2:
        raise Unusable("judgments are not one game or two")
    return games


def _vote(game: Any, order: str, graded: bool) -> Vote:
    decision = game.get("decision") if isinstance(game, dict) else None
    reply, scores = _reply(game), _scores(game)
    if scores is not None:
        share = grade_share(decision)
        return scored_vote(scores, None if share is None else share > 0.5, raw=str(scores), order=order)
    return graded_vote(grade_share(decision, reply), raw=reply, order=order, graded=graded)


def _reply(game: Any) -> Any:
    judgment = game.get("judgment") if isinstance(game, dict) else None
    return judgment.get("response") if isinstance(judgment, dict) else ""


def _scores(game: Any) -> Any:
    """The scores of the two responses as shown; None where the judge gives none."""
    judgment = game.get("judgment") if isinstance(game, dict) else None
    return judgment.get("scores") if isinstance(judgment, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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
