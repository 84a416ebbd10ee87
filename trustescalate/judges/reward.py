"""Turn the scores of a reward model into votes: one number a response, a probability from their margin.

A score is a request like any other, so caches, budgets and tariffs apply: the conversation, the response its
last message, no symbols and no tokens wanted. The text of the reply is the number.
"""

import math
import sys
from collections.abc import Sequence
from typing import Literal, Protocol

from trustescalate.errors import ConfigError
from trustescalate.judges.base import Ask, Tariff, all_done, names_of
from trustescalate.records import (
    EMPTY_RESPONSE,
    Channel,
    Item,
    Judgment,
    Message,
    Reply,
    Request,
    Task,
    TaskKind,
    Turn,
    Usage,
    Vote,
    parts,
)
from trustescalate.records.votes import Enough

LARGEST = sys.float_info.max
"""A larger score is none, and neither is NaN."""


class Scorer(Protocol):
    """Gives a response to a prompt a score, the higher the better, in no particular unit."""

    async def score(self, prompt: tuple[Message, ...], response: str) -> float:
        """The score of one response. Raises `Unscored` if this one cannot be scored."""
        ...


class Unscored(Exception):
    """A response without a score; `failure` is a code of `records.FAILURES`."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class ScoringBackend:
    """A `Scorer` as a `Backend`, so that cache, budget and retries apply to it."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def complete(self, request: Request) -> Reply:
        """Return the score of the last message, as a text that parses back to the same number."""
        *prompt, response = request.messages
        try:
            value = await self._scorer.score(tuple(prompt), response.content)
        except Unscored as error:
            return Reply(str(error), None, "stop", Usage(1), error.failure)
        failure = None if -LARGEST <= value <= LARGEST else "bad_reply"
        return Reply(str(value)[:40] if failure else repr(float(value)), None, "stop", Usage(1), failure)

    async def close(self) -> None:
        """Close the scorer, if it can be closed."""
        close = getattr(self._scorer, "close", None)
        if close is not None:
            await close()


class RewardJudge:
    """One vote per item from scalar scores (Bradley and Terry 1952: P(A beats B) = sigmoid(s_A - s_B)).

    Each of two responses is scored once and independently, so there is no position bias to undo; a tie has
    probability 0, and equal scores leave A and B at one half. For one response, `labels[0]` has the
    probability sigmoid(score - `decision_threshold`). Both are divided by `scale` first. The probabilities
    may be miscalibrated; a certificate tests them like all others.

    Raises `ConfigError` for tasks other than pairwise and binary.
    """

    channel: Channel = "logprobs"

    def __init__(
        self,
        name: str,
        fingerprint: str,
        task: Task,
        ask: Ask,
        *,
        scale: float = 1.0,
        decision_threshold: float = 0.0,
        tariff: Tariff | None = None,
    ) -> None:
        if task.kind not in (TaskKind.PAIRWISE, TaskKind.BINARY):
            raise ConfigError(
                f"judge {name!r}: a reward model has no labels to choose a {task.kind} from",
                "use it for pairwise or binary tasks",
            )
        self.name = name
        self.fingerprint = fingerprint
        self._task = task
        self._ask = ask
        self._scale, self._decision_threshold = scale, decision_threshold
        self._tariff = tariff or Tariff()

    async def judge(self, item: Item, enough: Enough) -> Judgment:  # noqa: ARG002
        """Score each response once, for a single vote."""
        replies = await all_done(self._ask(score_request(item, text)) for text in item.responses)
        votes = (self._vote(replies),)
        return Judgment(item.id, self.name, self.fingerprint, votes, 1, names_of(replies))

    def _vote(self, replies: Sequence[Reply]) -> Vote:
        failure = next((reply.failure for reply in replies if reply.failure is not None), None)
        scores = [] if failure else [_number(reply.text) for reply in replies]
        if not all(-LARGEST <= score <= LARGEST for score in scores):
            failure = "bad_reply"
        usage = sum((reply.usage for reply in replies), Usage())
        return Vote(
            0,
            "",
            {} if failure else self._probs(scores),
            ", ".join(reply.text for reply in replies),
            failure,
            self.channel,
            usage,
            sum(self._tariff.cost(reply.usage) for reply in replies),
        )

    def _probs(self, scores: Sequence[float]) -> dict[str, float]:
        first, second, *rest = self._task.labels
        against = scores[1] if len(scores) == 2 else self._decision_threshold
        margin = max(min(scores[0] / self._scale, LARGEST), -LARGEST)
        margin -= max(min(against / self._scale, LARGEST), -LARGEST)
        return {first: sigmoid(margin), second: sigmoid(-margin)} | dict.fromkeys(rest, 0.0)


def score_request(item: Item, response: str | tuple[Turn, ...]) -> Request:
    """Write the request for a score; of a response in turns the last one is scored, after all before it.

    The reference of an item is not shown: reward models have no place for it.

    >>> score_request(Item("q", "2 + 2?", ("4", "5")), "4").messages
    (Message(role='user', content='2 + 2?'), Message(role='assistant', content='4'))
    """
    prompt = _messages(item.prompt, "user")
    prompt += [Message("user", f"passage {i}:\n{text}") for i, text in enumerate(item.context, 1)]
    answer = _messages(response, "assistant")
    if answer[-1].role != "assistant":
        answer.append(Message("assistant", EMPTY_RESPONSE))
    shown = [*prompt, *answer]
    return Request(
        tuple(_merged(shown) if item.context or _has_tools(item.prompt, response) else shown),
        (),
        0,
        0.0,
        False,
    )


def _messages(words: str | tuple[Turn, ...], role: Literal["user", "assistant"]) -> list[Message]:
    """Messages; a tool call is the assistant's, and its result comes from the user."""
    if isinstance(words, str):
        return [Message(role, words)]
    messages = list[Message]()
    for place, what, text in parts(words):
        spoken_by = words[place - 1].role
        shown = text if what == spoken_by else f"{what}:\n{text}"
        messages.append(Message("user" if spoken_by == "tool" else spoken_by, shown))
    return messages


def _has_tools(*texts: str | tuple[Turn, ...]) -> bool:
    turns = (turn for text in texts if not isinstance(text, str) for turn in text)
    return any(turn.role == "tool" or turn.tool_calls for turn in turns)


def _merged(messages: Sequence[Message]) -> list[Message]:
    """Messages in which roles alternate, as chat templates require; the last one stays the response alone."""
    merged = list[Message]()
    for message in messages[:-1]:
        before = merged.pop().content + "\n\n" if merged and merged[-1].role == message.role else ""
        merged.append(Message(message.role, before + message.content))
    return [*merged, messages[-1]]


def sigmoid(margin: float) -> float:
    """1 / (1 + exp(-margin)), without overflow.

    >>> sigmoid(0.0), sigmoid(-1000.0), round(sigmoid(2.0) + sigmoid(-2.0), 12)
    (0.5, 0.0, 1.0)
    """
    if margin >= 0:
        return 1 / (1 + math.exp(-margin))
    odds = math.exp(margin)
    return odds / (1 + odds)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
