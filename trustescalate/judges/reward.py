"""Reward models and rerankers as judges: one number a response, no question asked and no example shown.

What yields the number is a backend like any other: it is asked with a prompt and a response, and answers with
the number as its text. So cache, budget and failures are those of every judge.
"""

import math
from typing import Protocol

from trustescalate.judges.base import Ask, Channel, Enough, Tariff, all_done
from trustescalate.types import Item, Judgment, Message, Reply, Request, Task, TaskKind, Turn, Usage, Vote


class Scorer(Protocol):
    """Whatever gives a response a number, the higher the better."""

    async def score(self, prompt: tuple[Turn, ...], response: str) -> float:
        """The number. Raises ValueError for a response that it cannot read (too long)."""
        ...


def answers(scorer: Scorer) -> Ask:
    """A scorer as something that answers requests."""

    async def ask(request: Request) -> Reply:
        *turns, last = request.messages
        prompt = tuple(Turn(turn.role, turn.content) for turn in turns)
        try:
            value = await scorer.score(prompt, last.content)
        except ValueError as error:
            return Reply(str(error)[:500], None, "stop", Usage(1), "bad_request")
        return Reply(repr(float(value)), None, "stop", Usage(1))

    return ask


class RewardJudge:
    """The responses' scores as one vote.

    In a pair, P(A) is the logistic function of (score of A - score of B) / `scale`, as in the model of
    Bradley and Terry (1952) that reward models are trained with; a tie is never said, and equal scores are
    no verdict.
    In a binary task, P(first label) is that of (score - `middle`) / `scale`. The orders of a pair cannot
    differ, so each response is scored once. Whether the probabilities are honest does not matter to the
    certificate, which needs their order alone.

    Raises ValueError for a task of another kind.
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
        middle: float = 0.0,
        tariff: Tariff | None = None,
    ) -> None:
        if task.kind not in (TaskKind.PAIRWISE, TaskKind.BINARY):
            raise ValueError(f"scores can judge pairwise and binary tasks, not {task.kind}")
        self.name = name
        self.fingerprint = fingerprint
        self._task = task
        self._ask = ask
        self._scale, self._middle = scale, middle
        self._tariff = tariff or Tariff()

    async def judge(self, item: Item, enough: Enough) -> Judgment:  # noqa: ARG002
        """Score each response; never raises for what one reply says."""
        replies = await all_done(self._ask(scored(item, text)) for text in item.responses)
        usage = sum((reply.usage for reply in replies), Usage())
        values = [_value(reply) for reply in replies]
        failure = next((reply.failure for reply in replies if reply.failure), None)
        if failure is None and None in values:
            failure = "bad_reply"
        probs = {} if failure else self._probs([value for value in values if value is not None])
        vote = Vote(
            0,
            "AB+BA" if self._task.kind is TaskKind.PAIRWISE else "",
            probs,
            " ".join(reply.text for reply in replies),
            failure,
            self.channel,
            usage,
            sum(self._tariff.cost(reply.usage) for reply in replies),
        )
        return Judgment(item.id, self.name, self.fingerprint, (vote,), 1)

    def _probs(self, values: list[float]) -> dict[str, float]:
        lead = values[0] - (values[1] if len(values) > 1 else self._middle)
        likelier = 1 / (1 + math.exp(-min(abs(lead) / self._scale, 700.0)))
        shares = (likelier, 1 - likelier) if lead >= 0 else (1 - likelier, likelier)
        probs = dict.fromkeys(self._task.labels, 0.0)
        return probs | dict(zip(self._task.labels, shares, strict=False))


def scored(item: Item, response: str | tuple[Turn, ...]) -> Request:
    """The request for one score: the prompt's turns, then the response, which ends with the assistant."""
    turns = list((Turn("user", item.prompt),) if isinstance(item.prompt, str) else item.prompt)
    said = list((Turn("assistant", response),) if isinstance(response, str) else response)
    while said and said[-1].role != "assistant":
        said.pop()
    shown = [*turns, *(said or [Turn("assistant", "")])]
    return Request(tuple(Message(turn.role, turn.content) for turn in shown), (), 0, 0.0, logprobs=False)


def _value(reply: Reply) -> float | None:
    try:
        value = float(reply.text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
