"""Write MT-Bench pair judgments: a line per judge and item, with files of questions and model answers.

A judge's first vote in each response order is game 1 and game 2; a judge that judged in one order only is
left out. A failed vote is "error", as FastChat writes it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from trustescalate.records import TIE, Item, Judgment, TaskKind, Turn, Vote
from trustescalate.report.export.base import (
    Export,
    LeftOut,
    Row,
    Target,
    as_json,
    lined,
    models,
    with_passages,
)

TEMPLATE = "trustescalate"
WINNER = {"A": "model_1", "B": "model_2", TIE: "tie"}


class _Texts(NamedTuple):
    """The questions of an item, and the answers of each model to them."""

    questions: list[str]
    answers: tuple[list[str], list[str]]


def _write(export: Export) -> Iterator[bytes]:
    questions: dict[str, bytes] = {}
    answers: dict[tuple[str, str], bytes] = {}

    def lines(row: Row) -> Iterator[bytes]:
        if row.decision is None or not row.judgments:
            raise LeftOut("not judged by a judge")
        texts, names = _texts(row.item), models(row.item)
        games = [(row.marked(judgment.judge), _games(judgment)) for judgment in row.judgments]
        question = _question(row.item, names, len(texts.questions))
        asked = as_json({"question_id": question, "category": _category(row.item), "turns": texts.questions})
        given = {
            (question, name): as_json(
                {"question_id": question, "model_id": name, "choices": [{"index": 0, "turns": turns}]}
            )
            for name, turns in zip(names, texts.answers, strict=True)
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
                    "turn": len(texts.questions),
                    "item_id": row.item.id,
                }
            )

    yield from lined(export.each(lines))
    export.beside[".question.jsonl"] = b"".join(line + b"\n" for line in questions.values())
    export.beside[".model_answer.jsonl"] = b"".join(line + b"\n" for line in answers.values())


def _question(item: Item, names: tuple[str, str], turn: int) -> str:
    """Use the cluster as the id of a question where the item's id was made from it, else the item's id."""
    made_from_cluster = item.group and item.id == f"{item.group}|{names[0]}|{names[1]}|turn{turn}"
    return item.group if item.group and made_from_cluster else item.id


def _category(item: Item) -> str:
    category = item.meta.get("category")
    return category if isinstance(category, str) else ""


def _texts(item: Item) -> _Texts:
    prompt, (first, second) = with_passages(item), item.responses
    if not isinstance(prompt, str):
        raise LeftOut("MT-Bench cannot hold a prompt of several turns")
    if isinstance(first, str) and isinstance(second, str):
        return _Texts([prompt], ([first], [second]))
    if isinstance(first, str) or isinstance(second, str) or not (_two(first) and _two(second)):
        raise LeftOut("MT-Bench cannot hold a conversation of other than two turns")
    if first[1].content != second[1].content:
        raise LeftOut("MT-Bench cannot hold two different second questions")
    answers = [[turns[0].content, turns[2].content] for turns in (first, second)]
    return _Texts([prompt, first[1].content], (answers[0], answers[1]))


def _two(turns: tuple[Turn, ...]) -> bool:
    roles = [turn.role for turn in turns]
    return roles == ["assistant", "user", "assistant"] and not any(turn.tool_calls for turn in turns)


def _games(judgment: Judgment) -> tuple[Vote, Vote]:
    first, second = (
        next((vote for vote in judgment.votes if vote.order == order), None) for order in ("AB", "BA")
    )
    if first is None or second is None:
        raise LeftOut("MT-Bench cannot hold a judge that judged in one response order only")
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
