"""Read Chatbot Arena: battles of two models, labelled by their users. Conversations stay turns.

Rows of the released data and of MT-Bench's human judgments, the wrapper of JUDGE-BENCH around them, Kaggle's
table with turns as JSON in cells, and battles that hold names only. Without a turn, a
row is judged after its last one. Source: FastChat, and the data sets.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from trustescalate.data.importers.base import Files, Format, Found, Notes, Taken, each
from trustescalate.data.importers.fields import get, has, many, name, number, text, turns
from trustescalate.data.importers.files import Foreign, Record, Rejected, Unusable, from_text
from trustescalate.data.importers.traces import as_response
from trustescalate.data.importers.verdicts import judged, pairwise, side, verdict
from trustescalate.records import TIE, Annotation, Item, Label, Turn

QUESTION = "Which assistant answers better?"
SOMEBODY = "voter"
Response = str | tuple[Turn, ...]


# ── rows with conversations ────────────────────────────────────────────────────────────────────────


def _read_conversations(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise(QUESTION)
    for file in files["battles"]:
        yield from each(file, _battle)
    for file in files["wrapped"]:
        for record in file.records():
            yield from [record] if isinstance(record, Rejected) else _wrapped(str(file.path), record)


def _battle(row: Any) -> Iterator[Found]:
    if not isinstance(row, dict):
        raise Unusable("is no battle with fields")
    question = name(row, "question_id" if "question_id" in row else "id")
    talks = turns(row, "conversation_a"), turns(row, "conversation_b")
    turn = int(number(row, "turn")) if row.get("turn") else min(map(_questions, talks))
    models = text(row, "model_a"), text(row, "model_b")
    prompt, responses = _split(*talks, turn)
    item_id = question
    if str(row.get("judge", "")).split("_")[0] in ("expert", "author"):  # MT-Bench: many pairs a question
        item_id = f"{question}|{models[0]}|{models[1]}|turn{turn}"
    meta = {"model_a": models[0], "model_b": models[1], "turn": turn}
    session = row.get("evaluation_session_id")
    group = question if item_id != question else session if isinstance(session, str) and session else None
    item = Item(item_id, prompt, responses, None, group, meta)
    who = row.get("judge") if isinstance(row.get("judge"), str) else SOMEBODY
    yield Found(item, (Annotation(item_id, who or SOMEBODY, _winner(row.get("winner"))),))


def _wrapped(file: str, document: Record) -> Iterator[Taken]:
    try:
        instances = many(document.value, "instances")
    except Unusable as error:
        yield Rejected(file, document.place, str(error))
        return
    for place, instance in enumerate(instances):
        try:
            yield from _battle(get(instance, "instance"))
        except Unusable as error:
            yield Rejected(file, f"instances.{place}", str(error))


def _winner(value: Any) -> Label:
    label = side(value, ("model_a",), ("model_b",))
    if label is None:
        raise Unusable(f"winner is {value!r}")
    return label


def _split(
    first: tuple[Turn, ...], second: tuple[Turn, ...], turn: int
) -> tuple[str, tuple[Response, Response]]:
    """The first question of both conversations, and the rest of each up to a turn."""
    last = min(max(turn, 1), _questions(first), _questions(second))
    first, second = _until(first, last), _until(second, last)
    if min(len(first), len(second)) < 2 or first[0] != second[0] or first[0].role != "user":
        raise Unusable("the conversations do not begin with one question")
    if first[-1].role != "assistant" or second[-1].role != "assistant":
        raise Unusable("a conversation does not end with an answer")
    if not first[0].content.strip():
        raise Unusable("the question is empty")
    if len(first) == len(second) == 2:
        return first[0].content, (as_response(first[1:]), as_response(second[1:]))
    return first[0].content, (first[1:], second[1:])


def _questions(talk: tuple[Turn, ...]) -> int:
    return sum(turn.role == "user" for turn in talk)


def _until(talk: tuple[Turn, ...], last: int) -> tuple[Turn, ...]:
    """A conversation up to the answer to its question number `last`, with the tool calls on the way."""
    asked = [place for place, turn in enumerate(talk) if turn.role == "user"]
    return talk[: asked[last]] if last < len(asked) else talk


# ── Kaggle's table ─────────────────────────────────────────────────────────────────────────────────


def _read_kaggle(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise(QUESTION)
    for file in files["table"]:
        if not has(file, "winner_model_a"):
            notes.assume("there are no winners in the table, so no annotations")
        yield from each(file, _kaggle)


def _kaggle(row: Any) -> Iterator[Found]:
    item_id = name(row, "id")
    asked, *responses = (listed(row, key) for key in ("prompt", "response_a", "response_b"))
    if not len(asked) == len(responses[0]) == len(responses[1]):
        raise Unusable("prompt and responses have different numbers of turns")
    first, second = (goes_on(asked, answers) for answers in responses)
    meta: dict[str, Any] = {key: row[key] for key in ("model_a", "model_b") if row.get(key)}
    item = Item(item_id, asked[0], (first, second), None, None, {**meta, "turns": len(asked)})
    label = one_hot(row)
    yield Found(item, () if label is None else (Annotation(item_id, SOMEBODY, label),))


def listed(row: Mapping[str, Any], key: str) -> list[str]:
    """The turns that a cell holds as a JSON list of texts."""
    values = from_text(text(row, key))
    if not isinstance(values, list) or not values or not all(isinstance(each, str) for each in values):
        raise Unusable(f"{key} is no list of texts (a turn may be null)")
    if key == "prompt" and not all(each.strip() for each in values):
        raise Unusable(f"{key} has an empty turn")
    return values


def goes_on(asked: list[str], answers: list[str]) -> Response:
    """One answer as text; of a longer conversation, all turns after the first question."""
    if len(asked) == 1:
        return answers[0]
    pairs = zip(asked, answers, strict=True)
    return tuple(turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a)))[1:]


def one_hot(row: Mapping[str, Any]) -> Label | None:
    """The label of winner_model_a, winner_model_b and winner_tie; None where they are not all there."""
    cells = {"A": "winner_model_a", "B": "winner_model_b", TIE: "winner_tie"}
    if not all(key in row for key in cells.values()):
        return None
    won = [label for label, key in cells.items() if str(row[key]).strip() in ("1", "1.0")]
    if len(won) != 1:
        raise Unusable("not exactly one of winner_model_a, winner_model_b and winner_tie is 1")
    return won[0]


# ── battles without texts ──────────────────────────────────────────────────────────────────────────


def _read_names(files: Files, notes: Notes) -> Iterator[Taken]:
    notes.task = pairwise(QUESTION)
    notes.assume("the file holds no texts: its items can be counted and ranked, but not judged")
    notes.assume(f"the voters are not named: the verdicts are those of a judge called {SOMEBODY!r}")
    games: dict[tuple[str, str, str], list[Label]] = defaultdict(list)

    def game(row: Any) -> tuple[Found, ...]:
        key = name(row, "question_id"), text(row, "model_a"), text(row, "model_b")
        winner = _winner(get(row, "winner"))
        games[key].append(winner)
        return ()

    for file in files["battles"]:
        yield from each(file, game)
    for (question, *models), won in games.items():
        item_id = "|".join([question, *models])
        answers = tuple(f"(answer of {model}; its text is not in the file)" for model in models)
        prompt = f"(question {question}; its text is not in the file)"
        item = Item(item_id, prompt, answers, None, question, {"model_a": models[0], "model_b": models[1]})
        votes = [verdict(label, member=member) for member, label in enumerate(won)]
        yield Found(item, judgments=(judged(item_id, SOMEBODY, votes),))


# ── the formats ────────────────────────────────────────────────────────────────────────────────────


def _is_wrapped(file: Foreign) -> bool:
    if not has(file, "instances") or not isinstance(file.head[0]["instances"], list):
        return False
    first = file.head[0]["instances"][:1]
    inner = first[0].get("instance") if first and isinstance(first[0], dict) else None
    return isinstance(inner, dict) and "conversation_a" in inner


def _is_kaggle(file: Foreign) -> bool:
    first = file.head[0]
    keys = ("prompt", "response_a", "response_b")
    return (
        has(file, "id", *keys)
        and all(isinstance(first[key], str) for key in keys)
        and all(first[key].startswith("[") and isinstance(from_text(first[key]), list) for key in keys)
    )


ARENA_CONVERSATIONS = Format(
    "chatbot_arena",
    "Chatbot Arena conversations, MT-Bench human judgments",
    {
        "battles": lambda file: has(file, "model_a", "model_b", "winner", "conversation_a", "conversation_b"),
        "wrapped": _is_wrapped,
    },
    ("battles", "wrapped"),
    _read_conversations,
)
ARENA_KAGGLE = Format(
    "chatbot_arena_kaggle", "Chatbot Arena as Kaggle's table", {"table": _is_kaggle}, ("table",), _read_kaggle
)
ARENA_BATTLES = Format(
    "chatbot_arena_battles",
    "Chatbot Arena battles without texts",
    {
        "battles": lambda file: (
            has(file, "question_id", "model_a", "model_b", "winner")
            and not has(file, "conversation_a")
            and not has(file, "prompt")
        )
    },
    ("battles",),
    _read_names,
)
