"""MT-Bench pair judgments: a line a judge and item, with its questions and its models' answers beside.

A judge's first vote in each order is game 1 and game 2; a judge asked in one order alone has no place
there. A failed vote is "error", as FastChat writes it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from trustescalate.records import TIE, Item, Judgment, TaskKind, Turn, Vote
from trustescalate.report.export.base import Export, LeftOut, Row, Target, as_json, lined, models

TEMPLATE = "trustescalate"
WINNER = {"A": "model_1", "B": "model_2", TIE: "tie"}


class _Texts(NamedTuple):
    """What an item holds: two lists of the same length for each model, what was asked and what it said."""

    asked: list[str]
    said: tuple[list[str], list[str]]


def _write(export: Export) -> Iterator[bytes]:
    questions: dict[str, bytes] = {}
    answers: dict[tuple[str, str], bytes] = {}

    def lines(row: Row) -> Iterator[bytes]:
        if row.decision is None or not row.judgments:
            raise LeftOut("not judged yet, or by people alone")
        texts, names = _texts(row.item), models(row.item)
        games = [(judgment.judge, _games(judgment)) for judgment in row.judgments]
        question = _question(row.item, names, len(texts.asked))
        asked = as_json({"question_id": question, "category": _category(row.item), "turns": texts.asked})
        given = {
            (question, name): as_json(
                {"question_id": question, "model_id": name, "choices": [{"index": 0, "turns": said}]}
            )
            for name, said in zip(names, texts.said, strict=True)
        }
        if questions.get(question, asked) != asked or any(answers.get(k, v) != v for k, v in given.items()):
            raise LeftOut("the same question and model with other texts")
        questions[question] = asked
        answers.update(given)
        for judge, (first, second) in games:
            yield as_json(
                {
                    "question_id": question,
                    "model_1": names[0],
                    "model_2": names[1],
                    "g1_winner": _winner(first),
                    "g2_winner": _winner(second),
                    "judge": [judge, TEMPLATE],
                    "g1_user_prompt": "",
                    "g1_judgment": first.raw,
                    "g2_user_prompt": "",
                    "g2_judgment": second.raw,
                    "turn": len(texts.asked),
                    "item_id": row.item.id,
                }
            )

    yield from lined(export.each(lines))
    export.beside[".question.jsonl"] = b"".join(line + b"\n" for line in questions.values())
    export.beside[".model_answer.jsonl"] = b"".join(line + b"\n" for line in answers.values())


def _question(item: Item, names: tuple[str, str], turn: int) -> str:
    """The question's id: the group where the item's id says so already, else the item's own id."""
    return (
        item.group if item.group and item.id == f"{item.group}|{names[0]}|{names[1]}|turn{turn}" else item.id
    )


def _category(item: Item) -> str:
    category = item.meta.get("category")
    return category if isinstance(category, str) else ""


def _texts(item: Item) -> _Texts:
    prompt, (first, second) = item.prompt, item.responses
    if not isinstance(prompt, str):
        raise LeftOut("MT-Bench has no place for a prompt of several turns")
    if isinstance(first, str) and isinstance(second, str):
        return _Texts([prompt], ([first], [second]))
    if isinstance(first, str) or isinstance(second, str) or not (_two(first) and _two(second)):
        raise LeftOut("MT-Bench has no place for a conversation of other than two turns")
    if first[1].content != second[1].content:
        raise LeftOut("MT-Bench has no place for two second questions")
    said = ([turns[0].content, turns[2].content] for turns in (first, second))
    return _Texts([prompt, first[1].content], (next(said), next(said)))


def _two(turns: tuple[Turn, ...]) -> bool:
    return [turn.role for turn in turns] == ["assistant", "user", "assistant"]


def _games(judgment: Judgment) -> tuple[Vote, Vote]:
    found = [next((vote for vote in judgment.votes if vote.order == order), None) for order in ("AB", "BA")]
    first, second = found
    if first is None or second is None:
        raise LeftOut("MT-Bench has no place for a judge that was asked in one order")
    return first, second


def _winner(vote: Vote) -> str:
    if not vote.probs:
        return "error"
    return WINNER[max(vote.probs, key=lambda label: vote.probs[label])]


MT_BENCH = Target(
    "mt_bench",
    "MT-Bench pair judgments, with questions and answers",
    _write,
    (TaskKind.PAIRWISE,),
    "its judgments compare two models",
)
