"""Define requests to a backend, its replies, and the votes of a judge."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from trustescalate.records.criteria import AskedCriterion
from trustescalate.records.task import STRICT, Json, Label

Mode = Literal["direct", "reason", "structured", "stated"]
"""Form of reply: the verdict alone; after reasoning; a JSON object; with a verbalized confidence."""
MODES: tuple[Mode, ...] = get_args(Mode)
Channel = Literal["logprobs", "samples", "stated"]
"""Source of probabilities: token log-probabilities, several draws, or the verbalized confidence."""
Count = Annotated[int, Field(ge=0)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""In USD. Like `Count`, checked where a record is read from a file."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a model. Equal requests have equal replies, so a request is a cache key.

    `symbols` are the strings that the prompt tells the model to answer with, one per label of the task, in
    task order. `logprobs` asks for log-probabilities; without it the answer is one draw, `sample` its number.
    `mode` is the form of reply that the messages ask for, and `nonce` the code on its verdict line.
    `criteria` are the questions, in their order, of a request that asks several; `symbols` are then those of
    all of them.
    """

    messages: tuple[Message, ...]
    symbols: tuple[str, ...]
    max_tokens: int
    temperature: float
    logprobs: bool
    sample: int = 0
    mode: Mode = "direct"
    nonce: str = ""
    criteria: tuple[AskedCriterion, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token: its text, and the alternatives at its place as (text, natural log-probability)."""

    text: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Calls to a model and their tokens. `input_tokens` includes `cached_tokens`; `batched` of the `calls`
    went through a Batch API, at its discount."""

    calls: Count = 0
    input_tokens: Count = 0
    cached_tokens: Count = 0
    output_tokens: Count = 0
    batched: Count = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.batched + other.batched,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply. `tokens` is None when the endpoint gave no log-probabilities.

    `failure` is a code of `FAILURES` when there is no usable reply at all (timeout, refused, …); whether
    the text holds a verdict is decided later, by `judges.reply_parsing.read_verdict`. `served` names the
    model that answered, as the endpoint does, with its system fingerprint; "" where it does not. `paid` is
    the name of the one request that was paid for it, where several rows share the reply.
    """

    text: str
    tokens: tuple[Token, ...] | None
    finish: Literal["stop", "length"]
    usage: Usage
    failure: str | None = None
    served: str = ""
    paid: str = field(default="", repr=False)


FAILURES: Mapping[str, str] = {
    "none": "the reply holds no verdict",
    "multiple": "the reply holds two different verdicts",
    "conflict": "the reply says one thing and means another (log-probabilities, reasons, a later sentence)",
    "echo": "a text to be judged holds a verdict and the reply may repeat it, or it repeats the prompt",
    "malformed": "the reply is not the one JSON object that was asked for",
    "no_confidence": "the reply states no confidence above 0 and up to 100 per cent",
    "truncated": "the reply was cut or broken off before its end",
    "refused": "the model or a content filter refused",
    "low_mass": "the labels hold too little of the probability at the verdict's place",
    "no_logprobs": "the certificate was made with log-probabilities, and the reply has none",
    "timeout": "no answer in time, after all attempts",
    "unreachable": "the connection failed, after all attempts",
    "server_error": "the server kept answering with an error",
    "rate_limited": "the server kept refusing for its rate limit",
    "empty": "the server kept sending a reply without any text",
    "bad_reply": "the server's answer cannot be read (HTML, broken JSON, a number out of range, too large)",
    "bad_request": "the server rejects this request (a parameter, its length)",
    "raised": "the judge's own function raised an error",
    "bad_return": "the judge's own function returned neither a label nor probabilities",
    "not_answered": "the batch ended before this question was answered",
    "not_recorded": "the recorded votes hold nothing for this item",
}
"""Every way a vote can fail. A failed vote stays in every denominator and gives no label any weight."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One reading of one item: by the few-shot prompt `exemplar_set`, in presentation order `order`.

    `probs` is in the item's own frame (order already undone), over the task's labels, as seen: it sums to
    the mass that the labels hold, at most 1. It is empty exactly when `failure` names a code of `FAILURES`.
    `channel` is the source: token log-probabilities (or numbers that the judge computes), samples, or a
    verbalized confidence: then `probs` holds it at the label that the judge names. `tokens` are the last ones
    of a failed vote, so that a later parser may read more of it. Votes of the same `paid` are read from one
    reply, whose usage and cost one of them has.
    """

    exemplar_set: int
    order: Literal["AB", "BA", "AB+BA", ""]
    probs: Mapping[Label, float]
    raw: str = ""
    failure: str | None = None
    channel: Channel = "logprobs"
    usage: Usage = Usage()
    cost: Cost = 0.0
    tokens: tuple[Token, ...] = ()
    paid: str = ""
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


MOST_VOTES = 10_000
"""Of one judge on one item: a larger number is an error, and its bounds would take hours."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """A judge's votes on one item, raw: no confidence is stored, so any estimator can be re-run for free.

    `planned` is the size of the full ensemble, at most `MOST_VOTES`; fewer votes mean that the rest could not
    change the decision. `served` names the models that answered (`Reply.served`), each once.
    """

    item_id: str
    judge: str
    fingerprint: str
    votes: tuple[Vote, ...]
    planned: int
    served: tuple[str, ...] = ()
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT

    def __post_init__(self) -> None:
        if not 1 <= self.planned <= MOST_VOTES:
            raise ValueError(f"'planned' must be between 1 and {MOST_VOTES:,} votes, not {self.planned}")

    @property
    def usage(self) -> Usage:
        """Counts summed over the votes."""
        return sum((vote.usage for vote in self.votes), Usage())

    @property
    def cost(self) -> float:
        """USD summed over the votes."""
        return sum(vote.cost for vote in self.votes)

    @property
    def failed(self) -> int:
        """How many of the votes failed."""
        return sum(vote.failure is not None for vote in self.votes)
