"""Read Arena-Hard judgments: a model against a baseline in two games, the second with the answers swapped.

Texts are cut from the prompts of the judge, and grades are confidences (`margins`). A record whose two games
show different texts is a wrong join, and is refused. Source: github lmarena/arena-hard-auto.
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import between, get, has, name, text
from trustescalate.data.importers.files import Foreign, Unusable
from trustescalate.data.importers.margins import GRADED, grade_share, graded_vote
from trustescalate.data.importers.verdicts import judged, pairwise
from trustescalate.records import Item, Vote

BASELINE = "baseline"
START, END = "<|The Start of Assistant {}'s Answer|>\n", "\n<|The End of Assistant {}'s Answer|>"
Shown = tuple[str, str, str]


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise("Which assistant answers better?")
    notes.assume(f"A is the baseline; where a file does not name it, it is called {BASELINE!r}")
    for file in files["judgments"]:
        notes.assume(GRADED)
        yield from each(file, _judgment)


def _judgment(row: Any) -> Iterator[Found]:
    uid = name(row, "uid" if "uid" in row else "question_id")
    model, judge, games = text(row, "model"), text(row, "judge"), get(row, "games")
    if not isinstance(games, list) or not 1 <= len(games) <= 2:
        raise Unusable("games are not one or two")
    prompt, *answers = _agreed([_texts(game) for game in games])
    baseline = row["baseline"] if isinstance(row.get("baseline"), str) else BASELINE
    item_id = f"{uid}|{model}"
    meta = {"model_a": baseline, "model_b": model}
    votes = [_vote(game, order) for game, order in zip(games, ("AB", "BA"), strict=False)]
    yield Found(
        Item(item_id, prompt, tuple(answers), None, uid, meta), judgments=(judged(item_id, judge, votes),)
    )


def _agreed(games: list[Shown | None]) -> Shown:
    """The texts of both games in one frame: the baseline first."""
    frames = [
        game if place == 0 else (game[0], game[2], game[1])
        for place, game in enumerate(games)
        if game is not None
    ]
    if not frames:
        raise Unusable("neither game holds what the judge was shown")
    if len(set(frames)) > 1:
        what = "prompts" if len({frame[0] for frame in frames}) > 1 else "answers"
        raise Unusable(f"the two games show different {what}: results were joined wrongly")
    return frames[0]


def _texts(game: Any) -> Shown | None:
    if game is None:
        return None
    shown = game.get("user_prompt") if isinstance(game, dict) else None
    if shown is None:
        shown = text(game, "prompt", -1, "content")
    if not isinstance(shown, str):
        raise Unusable("what the judge was shown is no text")
    first = START.format("A")
    prompt = shown.partition("<|User Prompt|>\n")[2].partition(f"\n\n{first}")[0]
    answers = [between(shown, START.format(side), END.format(side)) for side in "AB"]
    if not prompt.strip() or None in answers:
        raise Unusable("prompt and answers cannot be cut from what the judge was shown")
    return prompt, str(answers[0]), str(answers[1])


def _vote(game: Any, order: str) -> Vote:
    if game is None:
        return graded_vote(None, raw="", order=order, graded=True)
    raw = game.get("judgment")
    raw = raw.get("answer") if isinstance(raw, dict) else raw
    return graded_vote(grade_share(game.get("score")), raw=raw, order=order, graded=True)


def _is_judgment(file: Foreign) -> bool:
    return has(file, "model", "judge", "games") and (has(file, "uid") or has(file, "question_id"))


ARENA_HARD = Format(
    "arena_hard",
    "Arena-Hard judgments",
    {
        "judgments": _is_judgment,
        "questions": lambda file: has(file, "uid", "category", "prompt"),
        "answers": lambda file: has(file, "uid", "ans_id", "model", "messages"),
    },
    ("judgments",),
    _read,
)
