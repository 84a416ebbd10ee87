"""Read MT-Bench's human and GPT-4 votes from their pandas join, a CSV with Python lists as conversations.

The join pairs every human turn with every turn of GPT-4, so rows about two different turns are refused. The
lists are parsed as literals of bounded size; nothing is executed.
"""

import ast
from collections.abc import Iterator
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import has, name, text
from trustescalate.data.importers.files import Unusable
from trustescalate.data.importers.traces import as_response
from trustescalate.data.importers.verdicts import judged, pairwise, side, verdict
from trustescalate.records import Annotation, Item, Turn

LONGEST_LITERAL = 200_000
"""In characters; parsing takes about a hundred times as much memory."""
SIDES = (("model_a",), ("model_b",))


def _read(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise("Which assistant answers better?")
    notes.assume("columns _x are a human vote, _y a judge's; rows about two different turns are refused")
    for file in files["votes"]:
        yield from each(file, _vote)


def _vote(row: Any) -> Iterator[Found]:
    turn, other = name(row, "turn_x"), name(row, "turn_y")
    if turn != other:
        raise Unusable(f"a human vote on turn {turn} with a judge's on turn {other}: a product of the join")
    if turn not in ("1", "2"):
        raise Unusable(f"turn is {turn}, not 1 or 2")
    question, models = name(row, "question_id"), (text(row, "model_a"), text(row, "model_b"))
    first, second = (_talk(row, key, int(turn)) for key in ("conversation_a_x", "conversation_b_x"))
    if [turn.content for turn in first[::2]] != [turn.content for turn in second[::2]]:
        raise Unusable("the two conversations ask different things")
    label = side(text(row, "winner_x"), *SIDES)
    if label is None:
        raise Unusable(f"winner_x is {row['winner_x']!r}, not model_a, model_b or tie")
    item_id = f"{question}|{models[0]}|{models[1]}|turn{turn}"
    meta = {"model_a": models[0], "model_b": models[1], "turn": int(turn)}
    winner = row.get("winner_y")
    vote = verdict(side(winner, *SIDES), raw=winner, order="AB")
    responses = tuple(as_response(talk[1:]) for talk in (first, second))
    yield Found(
        Item(item_id, first[0].content, responses, None, question, meta),
        (Annotation(item_id, name(row, "judge_x"), label),),
        (judged(item_id, name(row, "judge_y"), [vote]),),
    )


def _talk(row: Any, key: str, turn: int) -> tuple[Turn, ...]:
    """A conversation up to a turn, from a literal list of (text, role)."""
    cell = text(row, key)
    if len(cell) > LONGEST_LITERAL:
        raise Unusable(f"{key} holds more than {LONGEST_LITERAL} characters")
    try:
        turns = ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise Unusable(f"{key} is no list of (text, role)") from None
    if not isinstance(turns, list) or len(turns) < 2 * turn:
        raise Unusable(f"{key} is no list of {2 * turn} turns")
    return tuple(
        _turn(pair, key, "user" if place % 2 == 0 else "assistant")
        for place, pair in enumerate(turns[: 2 * turn])
    )


def _turn(pair: Any, key: str, role: str) -> Turn:
    if not isinstance(pair, tuple) or len(pair) != 2 or pair[1] != role or not isinstance(pair[0], str):
        raise Unusable(f"{key} is no list of (text, role) that takes turns")
    if (role == "user" and not pair[0].strip()) or any("\ud800" <= char <= "\udfff" for char in pair[0]):
        raise Unusable(f"{key} holds a turn that is empty, or no text")
    return Turn("user" if role == "user" else "assistant", pair[0])


MT_BENCH_CSV = Format(
    "mt_bench_votes",
    "MT-Bench human votes joined with GPT-4's (CSV)",
    {
        "votes": lambda file: has(
            file, "question_id", "winner_x", "winner_y", "turn_x", "turn_y", "conversation_a_x"
        )
    },
    ("votes",),
    _read,
)
