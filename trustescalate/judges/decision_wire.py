"""Write and read the two wires of decision models, without any I/O.

"decisions" is OpenAI's Decisions API (`POST /decisions`; `openai.types.decision_create_params`), "systemone"
the System One API of TypeSafe, vLLM, Fireworks, Upstage and others (`POST /systemone`). One request asks
several questions about one text; each answer gives a probability for every option.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from trustescalate.judges.completions import count_of, served_by
from trustescalate.judges.refusals import parsed
from trustescalate.records import Message, Request, Usage
from trustescalate.records.jsonl import canonical

Api = Literal["decisions", "systemone"]
PATHS: Mapping[Api, str] = {"decisions": "/decisions", "systemone": "/systemone"}
MOST_QUESTIONS = 400
MOST_LEVELS = 10
ROUNDING = 0.01
"""Excess of a sum of probabilities over 1 that is rounding, and is divided out."""
LEAST_MASS = 0.5
LONGEST_RAW = 1000
"""Characters of one answer that are kept."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a request. `options` are the answers that get a probability, with their `meanings`.

    A "predicate" has two options: what its statement means when it is true, and when it is false.
    """

    kind: Literal["predicate", "choice", "score"]
    text: str
    options: tuple[str, ...]
    meanings: tuple[str, ...] = ()


class Answers(NamedTuple):
    """The answers of a reply as the server gave them, in the order of the questions; None: there is none."""

    answers: list[Any]
    usage: Usage
    served: str


def request_of(state: str, questions: Sequence[Question]) -> Request:
    """A request for several questions about one text, in the form that caches and budgets know."""
    asked = (Message("user", canonical(_fields(question))) for question in questions)
    return Request((Message("user", state), *asked), (), 0, 0.0, logprobs=False)


def questions_of(request: Request) -> list[Question]:
    """The questions of a request that `request_of` wrote.

    >>> asked = Question("predicate", "It is short.", ("yes", "no"))
    >>> questions_of(request_of("A text.", [asked])) == [asked]
    True
    """
    rows = (json.loads(message.content) for message in request.messages[1:])
    return [Question(kind, text, tuple(options), tuple(means)) for kind, text, options, means in rows]


def _fields(question: Question) -> list[Any]:
    return [question.kind, question.text, question.options, question.meanings]


# ── requests ───────────────────────────────────────────────────────────────────────────────────────


def body_of(api: Api, model: str, request: Request) -> dict[str, Any]:
    """What is sent.

    >>> asked = request_of("A text.", [Question("score", "How long?", ("1", "2"))])
    >>> body_of("systemone", "m", asked)["questions"]
    {'q1': {'type': 'score', 'instructions': 'How long?', 'criteria': ['1', '2']}}
    """
    state, questions = request.messages[0].content, questions_of(request)
    named = dict(zip(_names(questions), questions, strict=True))
    if api == "systemone":
        asked = {name: _as_system_one(question) for name, question in named.items()}
        return {"model": model, "state": state, "questions": asked}
    listed = [{"name": name, **_as_decision(question)} for name, question in named.items()]
    return {"model": model, "input": state, "questions": listed}


def _names(questions: Sequence[Question]) -> list[str]:
    return [f"q{number}" for number in range(1, len(questions) + 1)]


def _as_decision(question: Question) -> dict[str, Any]:
    head = {"type": question.kind, "instructions": question.text}
    if question.kind == "predicate":
        return head
    key, listed = ("levels", "label") if question.kind == "score" else ("choices", "value")
    means = question.meanings or ("",) * len(question.options)
    pairs = zip(question.options, means, strict=True)
    return head | {key: [{listed: name} | ({"description": mean} if mean else {}) for name, mean in pairs]}


def _as_system_one(question: Question) -> dict[str, Any]:
    if question.kind == "score":
        return {"type": "score", "instructions": question.text, "criteria": list(question.options)}
    if question.kind == "predicate":
        means = dict(zip(("true", "false"), question.options, strict=True))
        return {"type": "noul", "instructions": question.text, "criteria": means}
    named = dict(zip(question.options, question.meanings or (None,) * len(question.options), strict=True))
    return {"type": "choice", "instructions": question.text, "criteria": named}


# ── replies ────────────────────────────────────────────────────────────────────────────────────────


def read_answers(content: bytes, count: int) -> Answers | None:
    """The answers of a body in either wire to `count` questions; None for any other body.

    >>> read_answers(b'{"model": "m", "answers": {"q1": {"type": "noul", "noul": 0.75}}}', 2)[0]
    [{'type': 'noul', 'noul': 0.75}, None]
    """
    body = parsed(content)
    fields = body if isinstance(body, dict) else {}
    answers = fields.get("answers")
    names = [f"q{number}" for number in range(1, count + 1)]
    if isinstance(answers, list):
        given: list[Any] = [row.get("name") if isinstance(row, dict) else None for row in answers]
        if given == [None] * count:
            given = list(names)
        known = all(name in names for name in given) and len({*map(str, given)}) == len(given)
        answers = dict(zip(given, answers, strict=True)) if known else None
    if not isinstance(answers, dict) or not answers.keys() & set(names):
        return None
    return Answers([answers.get(name) for name in names], _usage(fields.get("usage")), served_by(fields))


def _usage(fields: Any) -> Usage:
    usage = fields if isinstance(fields, dict) else {}
    details = usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    given, received = count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens"))
    return Usage(1, given, min(count_of(cached), given), received)


class Answered(NamedTuple):
    """The probability of each option of a question, in order, or the failure with its reason."""

    probs: tuple[float, ...] = ()
    failure: str | None = None
    why: str = ""


def read_answer(question: Question, answer: Any) -> Answered:
    """The probabilities in one answer.

    Fails for an answer that is missing ("none"), a refusal ("refused"), an answer of another kind or to other
    options, numbers that are no probabilities ("bad_reply"), and options that hold less than half of them
    ("low_mass").

    >>> choice = Question("choice", "Which?", ("A", "B"))
    >>> read_answer(choice, {"type": "choice", "probabilities": {"A": 0.75, "B": 0.25}}).probs
    (0.75, 0.25)
    >>> read_answer(choice, {"type": "choice", "probabilities": {"A": float("nan"), "B": 0.25}})
    Answered(probs=(), failure='bad_reply', why="the probability of 'A' is NaN")
    >>> read_answer(choice, {"type": "refusal"}).failure
    'refused'
    """
    try:
        return Answered(_probabilities(question, answer))
    except _Unread as unread:
        return Answered(failure=unread.failure, why=unread.why)


class _Unread(Exception):
    def __init__(self, why: str, failure: str = "bad_reply") -> None:
        super().__init__(why)
        self.why, self.failure = why, failure


def _probabilities(question: Question, answer: Any) -> tuple[float, ...]:
    if answer is None:
        raise _Unread("the question was left without an answer", "none")
    kind = answer.get("type") if isinstance(answer, dict) else None
    if kind == "refusal":
        raise _Unread("the model declined to answer", "refused")
    if kind not in _KINDS[question.kind]:
        raise _Unread(f"asked for a {question.kind}, got {_shown(kind)}")
    if question.kind == "predicate":
        yes = _probability("the statement", answer.get("probability", answer.get("noul")))
        return (yes, 1.0 - yes)
    pairs = _listed(question, answer.get("probabilities"))
    if len(dict(pairs)) < len(pairs) or dict(pairs).keys() != set(question.options):
        options = ", ".join(map(repr, question.options))
        raise _Unread(f"there must be one probability for each of {options}")
    given = {name: _probability(repr(name), p) for name, p in pairs}
    total = math.fsum(given.values())
    if total > 1 + ROUNDING:
        raise _Unread(f"the probabilities sum to {total:.4g}")
    if total < LEAST_MASS:
        raise _Unread(f"the probabilities sum to {total:.4g}", "low_mass")
    return tuple(given[name] / max(total, 1.0) for name in question.options)


_KINDS: Mapping[str, tuple[str, ...]] = {
    "predicate": ("predicate", "noul"),
    "choice": ("choice",),
    "score": ("score",),
}


def _listed(question: Question, probabilities: Any) -> list[tuple[Any, Any]]:
    """The pairs of option and probability in either shape; levels go by their labels, or by their places."""
    if isinstance(probabilities, dict):
        name: Callable[[str], Any] = (lambda key: _level(question, key)) if question.kind == "score" else str
        return [(name(key), p) for key, p in probabilities.items()]
    if not isinstance(probabilities, list) or not all(isinstance(row, dict) for row in probabilities):
        raise _Unread("the answer holds no probabilities")
    if question.kind == "choice":
        return [(_hashable(row.get("value")), row.get("probability")) for row in probabilities]
    return [
        (
            row["label"] if isinstance(row.get("label"), str) else _level(question, row.get("value")),
            row.get("probability"),
        )
        for row in probabilities
    ]


def _level(question: Question, place: Any) -> Any:
    """The option at a place of a scale, counted from 0."""
    places = {str(at): option for at, option in enumerate(question.options)}
    whole = int(place) if isinstance(place, float) and place.is_integer() else place
    return places.get(str(whole))


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _probability(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _Unread(f"the probability of {what} is {_shown(value)}")
    return float(value)


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)[:40]
    except (TypeError, ValueError, RecursionError):
        return "nothing that can be read"


def guessed(question: Question, first: float) -> dict[str, Any]:
    """An answer with this probability for the first option and the rest for the second, for a dry run.

    >>> asked = Question("score", "How long?", ("1", "2", "3"))
    >>> read_answer(asked, guessed(asked, 0.25)).probs
    (0.25, 0.75, 0.0)
    """
    if question.kind == "predicate":
        return {"type": "predicate", "probability": first}
    shares = [first, 1 - first, *[0.0] * (len(question.options) - 2)]
    key = "label" if question.kind == "score" else "value"
    rows = [{key: name, "probability": p} for name, p in zip(question.options, shares, strict=True)]
    return {"type": question.kind, "probabilities": rows}


def raw_of(answer: Any) -> str:
    """An answer as it is kept: compact JSON, cut at `LONGEST_RAW` characters."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))[:LONGEST_RAW]
