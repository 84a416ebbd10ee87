"""Read MT-Bench as FastChat writes it: pair and single judgments, with files of questions and answers.

Responses are in model_answer files, or else in the prompts of the judges, where they are cut out only if
every mark occurs once. The swapped game of a pair names models, not places. Source: FastChat,
fastchat/llm_judge/common.py.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import between, get, has, name, number, text
from trustescalate.data.importers.files import Foreign, Unusable
from trustescalate.data.importers.verdicts import grade, judged, pairwise, side, verdict
from trustescalate.records import Item, Task, TaskKind, Turn, Vote

LOWEST, HIGHEST = 1, 10
FAILED = "$ERROR$"
SHOWN = {
    "question": (("[User Question]\n", "[Question]\n"), "\n\n[The Start of "),
    "reference": (("[The Start of Reference Answer]\n",), "\n[The End of Reference Answer]"),
    "a": (("[The Start of Assistant A's Answer]\n",), "\n[The End of Assistant A's Answer]"),
    "only": (("[The Start of Assistant's Answer]\n",), "\n[The End of Assistant's Answer]"),
    "b": (("[The Start of Assistant B's Answer]\n",), "\n[The End of Assistant B's Answer]"),
}
"""Marks at the beginning and end of each part of a judge's prompt."""
CONVERSATION = (
    "<|The Start of Assistant A's Conversation with User|>\n",
    "\n<|The End of Assistant A's Conversation with User|>",
)
HEADING = re.compile(r"^### (?:User|Assistant A):\n", re.MULTILINE)
TEMPLATES = "the templates of one judge (pair-v2, pair-math-v1, …) follow the question, so they are one judge"


class _Known(NamedTuple):
    """Questions and answers by id, from the other files."""

    questions: Mapping[str, list[str]]
    answers: Mapping[tuple[str, str], list[str]]


def _read_pairs(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise("Which assistant answers better?")
    notes.assume(TEMPLATES)
    return _read(files, _pair)


def _read_singles(files: Files, notes: Notes) -> Iterator[Taken]:
    grades = tuple(str(grade) for grade in range(LOWEST, HIGHEST + 1))
    notes.task = Task(TaskKind.RATING, "How good is the answer?", grades)
    notes.assume(TEMPLATES)
    notes.assume("a score that is no whole number from 1 to 10 is a vote without a verdict")
    return _read(files, _single)


def _read(files: Files, read: Callable[[Any, _Known], Iterable[Found]]) -> Iterator[Taken]:
    questions: dict[str, list[str]] = {}
    answers: dict[tuple[str, str], list[str]] = {}

    def question(row: Any) -> Iterable[Found]:
        questions[name(row, "question_id")] = _texts(row, "turns")
        return ()

    def answer(row: Any) -> Iterable[Found]:
        answers[name(row, "question_id"), name(row, "model_id")] = _texts(row, "choices", 0, "turns")
        return ()

    for part, beside in (("questions", question), ("answers", answer)):
        for file in files[part]:
            yield from each(file, beside)
    known = _Known(questions, answers)
    for file in files["judgments"]:
        yield from each(file, lambda row: read(row, known))


def _pair(row: Any, known: _Known) -> Iterator[Found]:
    question, turn = name(row, "question_id"), _turn(row)
    models = text(row, "model_1"), text(row, "model_2")
    item_id = f"{question}|{models[0]}|{models[1]}|turn{turn}"
    prompt, responses, reference = _shown(row, "g1_user_prompt", question, models, turn, known)
    meta = {"model_a": models[0], "model_b": models[1], "turn": turn}
    votes = [_game(row, game, order, models) for game, order in (("g1", "AB"), ("g2", "BA"))]
    yield Found(
        Item(item_id, prompt, responses, reference, question, meta),
        judgments=(judged(item_id, name(row, "judge", 0), votes),),
    )


def _game(row: Any, game: str, order: str, models: tuple[str, str]) -> Vote:
    winner, raw = get(row, f"{game}_winner"), get(row, f"{game}_judgment")
    label = side(winner, ("model_1", models[0]), ("model_2", models[1])) if models[0] != models[1] else None
    return verdict(label, raw=raw, order=order, why="server_error" if raw == FAILED else "none")


def _single(row: Any, known: _Known) -> Iterator[Found]:
    question, turn, model = name(row, "question_id"), _turn(row), text(row, "model")
    item_id = f"{question}|{model}|turn{turn}"
    prompt, responses, reference = _shown(row, "user_prompt", question, (model,), turn, known)
    score, raw = get(row, "score"), text(row, "judgment")
    vote = verdict(grade(score, HIGHEST), raw=raw, why="server_error" if raw == FAILED else "none")
    yield Found(
        Item(item_id, prompt, responses, reference, question, {"model": model, "turn": turn}),
        judgments=(judged(item_id, name(row, "judge", 0), [vote]),),
    )


def _turn(row: Any) -> int:
    turn = number(row, "turn") if "turn" in row else 1
    if turn not in (1, 2):
        raise Unusable(f"turn is {turn:g}, not 1 or 2")
    return int(turn)


def _texts(row: Any, *path: str | int) -> list[str]:
    values = get(row, *path)
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise Unusable(f"{'.'.join(map(str, path))} is no list of texts")
    return values


# ── responses ──────────────────────────────────────────────────────────────────────────────────────

Shown = tuple[str, tuple[str | tuple[Turn, ...], ...], str | None]


def _shown(row: Any, field: str, question: str, models: tuple[str, ...], turn: int, known: _Known) -> Shown:
    """Prompt, responses and reference: from the other files, else from the judge's prompt."""
    asked, given = known.questions.get(question), [known.answers.get((question, model)) for model in models]
    whole = [texts for texts in given if texts is not None and len(texts) >= turn]
    if asked and len(asked) >= turn and len(whole) == len(models):
        if turn == 1:
            return asked[0], tuple(texts[0] for texts in whole), None
        return asked[0], tuple(_conversation(asked, texts) for texts in whole), None
    if turn == 1:
        return _cut(text(row, field), len(models))
    if len(models) == 1:
        return _cut_conversation(text(row, field))
    raise Unusable("two turns: give question.jsonl and the model_answer files too")


def _conversation(asked: list[str], answers: list[str]) -> tuple[Turn, ...]:
    return Turn("assistant", answers[0]), Turn("user", asked[1]), Turn("assistant", answers[1])


def _cut(shown: str, responses: int) -> Shown:
    parts = {part: _part(shown, *marks) for part, marks in SHOWN.items()}
    question, texts = parts["question"], [parts[part] for part in ("a", "only", "b")]
    answers = [text for text in texts if text is not None]
    if not question or len(answers) != responses:
        raise Unusable("the answers cannot be cut from the prompt: give the model_answer files too")
    return question, tuple(answers), parts["reference"]


def _cut_conversation(shown: str) -> Shown:
    """The two turns of one answer; there must be one heading for each turn."""
    talk = between(shown, *CONVERSATION)
    parts = [] if talk is None else [part.strip("\n") for part in HEADING.split(talk)[1:]]
    if len(parts) != 4 or not all(part.strip() for part in parts[::2]):
        raise Unusable("the turns cannot be cut from the prompt: give question.jsonl and model_answer files")
    return parts[0], (_conversation([parts[0], parts[2]], [parts[1], parts[3]]),), None


def _part(shown: str, starts: tuple[str, ...], end: str) -> str | None:
    start = next((start for start in starts if start in shown), None)
    if start is None:
        return None
    if start in SHOWN["question"][0]:  # it ends where the first answer starts
        return shown.partition(start)[2].partition(end)[0]
    return between(shown, start, end)


# ── the formats ────────────────────────────────────────────────────────────────────────────────────


def _is_question(file: Foreign) -> bool:
    return has(file, "question_id", "turns")


def _is_answer(file: Foreign) -> bool:
    return has(file, "question_id", "model_id", "choices")


MT_BENCH_PAIR = Format(
    "mt_bench_pair",
    "MT-Bench pair judgments (FastChat)",
    {
        "judgments": lambda file: has(file, "question_id", "model_1", "model_2", "g1_winner", "g2_winner"),
        "questions": _is_question,
        "answers": _is_answer,
    },
    ("judgments",),
    _read_pairs,
    kept=("questions", "answers"),
)
MT_BENCH_SINGLE = Format(
    "mt_bench_single",
    "MT-Bench single judgments (FastChat)",
    {
        "judgments": lambda file: has(file, "question_id", "model", "judge", "score", "user_prompt"),
        "questions": _is_question,
        "answers": _is_answer,
    },
    ("judgments",),
    _read_singles,
    kept=("questions", "answers"),
)
