"""Simulate judges of three sizes, which read the prompt and nothing else.

A larger one overlooks fewer faults, has less noise and position bias, and is better calibrated. Every draw
comes from a hash of the model, its seed and the text, so that equal requests have equal replies.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from trustescalate.judges.criteria_replies import write_reply
from trustescalate.judges.simulated.reading import Page, Traits, read_page, read_traits
from trustescalate.records import Message, Reply, Request, Token, Usage
from trustescalate.records.criteria import AskedCriterion

Size = Literal["XS", "S", "M"]

PRICES: Mapping[Size, tuple[float, float]] = {"XS": (0.05, 0.05), "S": (0.5, 1.5), "M": (5.0, 15.0)}
"""Simulated USD per million tokens: input, output."""

DISLIKES = Traits(
    wrong=1.1, turned=0.75, unitless=0.3, disobedient=0.5, digressing=0.5, rude=0.8, hedged=0.5, bare=0.35,
    long=0.0, confident=0.0,
)  # fmt: skip
"""The weight of each trait for human annotators on average; few-shot examples adapt it."""

EVERY = Traits(*[1.0] * len(Traits._fields))
ABOUT: Mapping[str, Traits] = {
    r"accura|correct|right|fact|true": Traits(1, 1, 1, 0, 0, 0, 0, 0, 0, 0),
    r"brevity|brief|short|concise|length|to the point": Traits(0, 0, 0, 1, 1, 0, 0, 0, 1, 0),
    r"polite|tone|rude|friendly|respect": Traits(0, 0, 0, 0, 0, 1, 0, 0, 0, 0),
    r"clar|clear|easy to follow|steps": Traits(0, 0, 0, 0, 0, 0, 1, 1, 0, 0),
}
"""The traits that a criterion is about, by words in its name or question."""

POSITIVE = frozenset(
    ("yes", "pass", "good", "correct", "true", "accept", "positive", "ok", "safe", "relevant", "full")
)
NEGATIVE = frozenset(
    ("no", "fail", "bad", "incorrect", "false", "reject", "negative", "unsafe", "irrelevant", "none")
)
REASONING = ("This reasoning is simulated, as long as a short one of a real model would be. " * 8).strip()
"""Reasoning of a simulated judge, without content, at a realistic length."""
CONTENT = 4
"""Number of traits that need understanding: without it they are overlooked in all responses to a question."""
TOP = 20
_LISTED = re.compile(
    r"(?s)^Example \d+\n(\[.*?\n\[end [^\n]*\])\n\nHuman verdicts?:\s((?:\d+: [^\n]+\n?)+|[^\n]+)", re.M
)
"""An example in the system message."""


@dataclass(frozen=True, slots=True)
class Tier:
    """The ability of a judge. Noise and biases are in the unit of `DISLIKES`; `gain` turns it into log-odds.

    `sharpness` is the chance to notice each trait, `alarm` that of a false alarm; `charmed` is the weight of
    length and a confident tone, `lean` the position bias. `slip` is the noise per item, `jitter` that per
    prompt.
    """

    sharpness: Traits
    alarm: float
    charmed: float
    slip: float
    jitter: float
    lean: float
    gain: float
    learning: float


TIERS: Mapping[Size, Tier] = {
    "XS": Tier(
        sharpness=Traits(0.50, 0.52, 0.42, 0.52, 0.35, 0.9, 0.7, 0.5, 1.0, 1.0),
        alarm=0.03, charmed=0.18, slip=0.12, jitter=0.12, lean=0.12, gain=5.5, learning=0.1,
    ),
    "S": Tier(
        sharpness=Traits(0.77, 0.77, 0.6, 0.75, 0.75, 0.95, 0.9, 0.75, 1.0, 1.0),
        alarm=0.02, charmed=0.05, slip=0.12, jitter=0.10, lean=0.06, gain=5.0, learning=0.15,
    ),
    "M": Tier(
        sharpness=Traits(0.98, 0.97, 0.9, 0.95, 0.97, 1.0, 1.0, 0.95, 1.0, 1.0),
        alarm=0.005, charmed=0.0, slip=0.07, jitter=0.06, lean=0.02, gain=5.0, learning=0.2,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Habit:
    """What a judge learnt from few-shot examples: weights of traits, and frequency and quality per symbol."""

    dislikes: Traits
    log_shares: tuple[float, ...]
    levels: tuple[float, ...]


class SimulatedBackend:
    """A judge without a model: answers any request on any text, immediately.

    >>> import asyncio
    >>> request = Request((Message("user", "Is 4 even?"),), ("yes", "no"), 1, 0.0, logprobs=True)
    >>> reply = asyncio.run(SimulatedBackend("XS").complete(request))
    >>> reply.text in request.symbols, reply == asyncio.run(SimulatedBackend("XS").complete(request))
    (True, True)
    """

    def __init__(self, model: Size, seed: int = 0) -> None:
        if model not in TIERS:
            raise ValueError(f"no simulated model {model!r}: use one of {', '.join(TIERS)}")
        self.model: Size = model
        self.seed = seed

    async def complete(self, request: Request) -> Reply:
        """Answer one request, with log-probabilities where they are asked for."""
        *prefix, last = request.messages
        digest = _draws(
            self.model, self.seed, *(text for m in request.messages for text in (m.role, m.content))
        )
        if request.criteria:
            return self._on_each(request, digest)
        probs = self._probs(tuple(prefix), read_page(last.content), request.symbols, digest)
        pick = _pick(probs, request.temperature, _draws(*map(repr, digest), request.sample)[0])
        before, after = _dressed(request, probs[pick])
        text = before + request.symbols[pick] + after
        shared = sum(len(message.content) for message in prefix) // 4
        usage = Usage(1, shared + len(last.content) // 4 + 1, shared, len(before + after) // 4 + 1)
        place = Token(request.symbols[pick], _top(probs, request.symbols, digest))
        spelled = (Token(before, ()), place, Token(after, ()))
        tokens = tuple(token for token in spelled if token.text) if request.logprobs else None
        return Reply(text, tokens, "stop", usage)

    def _on_each(self, request: Request, digest: Sequence[float]) -> Reply:
        """A verdict on each criterion, from the traits that its words are about."""
        *prefix, last = request.messages
        page, verdicts = read_page(last.content), []
        for place, each in enumerate(request.criteria, 1):
            own = _draws(*map(repr, digest), each.name)
            probs = self._probs(tuple(prefix), page, each.symbols, own, place, _about(each))
            pick = _pick(probs, request.temperature, _draws(*map(repr, own), request.sample)[0])
            verdicts.append((each.symbols[pick], _top(probs, each.symbols, own)))
        text, tokens = write_reply(request, verdicts, REASONING)
        shared = sum(len(message.content) for message in prefix) // 4
        usage = Usage(1, shared + len(last.content) // 4 + 1, shared, len(text) // 4 + 1)
        return Reply(text, tokens if request.logprobs else None, "stop", usage)

    def _probs(
        self,
        prefix: tuple[Message, ...],
        page: Page,
        symbols: tuple[str, ...],
        digest: Sequence[float],
        place: int = 0,
        about: Traits = EVERY,
    ) -> list[float]:
        habit = _learn(self.model, self.seed, prefix, symbols, place, about)
        tier = TIERS[self.model]
        seen = [
            _of(about, _seen(self.model, self.seed, page.question, page.reference, text))
            for text in page.responses
        ]
        costs = [_cost(tier, habit.dislikes, traits) for traits in seen]
        jitter = tier.jitter * _logistic(digest[0])
        if len(page.responses) == 2:
            slip = tier.slip * _pair_slip(self.model, self.seed, page)
            return _compared(tier, habit, costs[1] - costs[0] + slip + jitter + tier.lean)
        slip = tier.slip * _logistic(_draws(self.model, self.seed, page.question, page.responses[0])[0])
        return _graded(tier, habit, math.exp(-max(costs[0] + slip + jitter, 0.0)))


# ── reading as well as the tier can ────────────────────────────────────────────────────────────────


@lru_cache(maxsize=4096)
def _seen(model: Size, seed: int, question: str, reference: str, response: str) -> Traits:
    tier = TIERS[model]
    grasp = _draws(model, seed, question)[0]
    style = _draws(model, seed, question, response)
    traits = read_traits(question, reference, response)
    draws = [grasp] * CONTENT + style
    kept = [value * (u < sharp) for value, u, sharp in zip(traits, draws, tier.sharpness, strict=False)]
    if style[-1] < tier.alarm:
        kept[0] = 1.0
    return Traits(*kept)


def _about(criterion: AskedCriterion) -> Traits:
    """The traits that a criterion asks for: 1 for each of them, of all where its words name none."""
    words = f"{criterion.name} {criterion.question}"
    parts = [traits for pattern, traits in ABOUT.items() if re.search(pattern, words, re.IGNORECASE)]
    return Traits(*map(max, zip(*parts, strict=True))) if parts else EVERY


def _of(about: Traits, traits: Traits) -> Traits:
    return Traits(*(share * trait for share, trait in zip(about, traits, strict=True)))


@lru_cache(maxsize=64)
def _learn(
    model: Size,
    seed: int,
    prefix: tuple[Message, ...],
    symbols: tuple[str, ...],
    place: int = 0,
    about: Traits = EVERY,
) -> Habit:
    """One step of logistic regression on the few-shot examples, from the average weights."""
    tier, shots = TIERS[model], _shots(prefix, symbols, place)
    dislikes = list(DISLIKES)
    counts = [1.0] * len(symbols)
    levels = [_level(symbol, i, len(symbols)) for i, symbol in enumerate(symbols)]
    for page, answer in shots:
        a, *b = (
            _of(about, _seen(model, seed, page.question, page.reference, text)) for text in page.responses[:2]
        )
        costs = [_cost(tier, DISLIKES, traits) for traits in (a, *b)]
        counts[answer] += 1
        if b and answer < 2:
            wrong = (1.0 if answer == 0 else 0.0) - _sigmoid(tier.gain * (costs[1] - costs[0]))
            dislikes = [
                w + tier.learning * wrong * (y - x) for w, x, y in zip(dislikes, a, b[0], strict=True)
            ]
        if not b:
            levels[answer] += (math.exp(-costs[0]) - levels[answer]) / counts[answer]
    total = sum(counts)
    return Habit(Traits(*dislikes), tuple(math.log(count / total) for count in counts), tuple(levels))


def _dressed(request: Request, sure: float) -> tuple[str, str]:
    """The text before and after the symbol, in the requested form of reply."""
    if request.mode == "reason":
        return f"{REASONING}\n\nVerdict {request.nonce}: ", ""
    if request.mode == "structured":
        return json.dumps({"reasoning": REASONING})[:-1] + ', "verdict": "', '"}'
    if request.mode == "stated":
        return f"Verdict {request.nonce}: ", f", {max(1, round(100 * sure / 5) * 5)} %"
    return "", ""


def _shots(prefix: tuple[Message, ...], symbols: tuple[str, ...], place: int = 0) -> list[tuple[Page, int]]:
    """The examples with a known answer: turns of the conversation, or listed in the system message.

    With several criteria the answer is the line that begins with `place`.
    """
    turns = [
        (shown.content, answer.content)
        for shown, answer in pairwise(prefix)
        if (shown.role, answer.role) == ("user", "assistant")
    ]
    listed = [(match[1], match[2]) for message in prefix[:1] for match in _LISTED.finditer(message.content)]
    if place:
        own = re.compile(rf"^{place}: (.+)$", re.MULTILINE)
        lines = [(shown, own.search(answer)) for shown, answer in turns + listed]
        known = [(shown, line[1]) for shown, line in lines if line is not None]
    else:
        known = turns + listed
    return [(read_page(shown), symbols.index(label)) for shown, label in known if label in symbols]


def _level(symbol: str, place: int, count: int) -> float:
    """The quality of a response with this symbol, 0 to 1, before any example."""
    word = symbol.casefold()
    if word in POSITIVE:
        return 0.9
    if word in NEGATIVE:
        return 0.3
    rank = place / max(count - 1, 1)
    return rank if word.isdecimal() else 1.0 - rank


# ── from costs to probabilities ────────────────────────────────────────────────────────────────────


def _cost(tier: Tier, dislikes: Traits, traits: Traits) -> float:
    disliked = sum(weight * trait for weight, trait in zip(dislikes, traits, strict=True))
    return disliked - tier.charmed * (traits.long + traits.confident)


def _compared(tier: Tier, habit: Habit, lead: float) -> list[float]:
    """Probabilities of A, of B, and of other symbols (a tie), which a clear lead rules out."""
    odds = tier.gain * lead
    rest = [share - 1.5 - abs(odds) / 4 - habit.log_shares[0] for share in habit.log_shares[2:]]
    return _softmax([odds / 2, -odds / 2, *rest][: len(habit.log_shares)])


def _graded(tier: Tier, habit: Habit, quality: float) -> list[float]:
    return _softmax([
        2.5 * tier.gain * -((quality - level) ** 2) + share / 2
        for level, share in zip(habit.levels, habit.log_shares, strict=True)
    ])  # fmt: skip


def _pair_slip(model: Size, seed: int, page: Page) -> float:
    """Noise per pair, with the opposite sign for swapped responses."""
    a, b = page.responses
    first, second = sorted((a, b))
    noise = _logistic(_draws(model, seed, page.question, first, second)[0])
    return noise if (a, b) == (first, second) else -noise


def _pick(probs: Sequence[float], temperature: float, u: float) -> int:
    if temperature <= 0:
        return max(range(len(probs)), key=probs.__getitem__)
    heated = _softmax([math.log(max(p, 1e-12)) / temperature for p in probs])
    for i, p in enumerate(heated):
        u -= p
        if u < 0:
            return i
    return len(heated) - 1


def _top(
    probs: Sequence[float], symbols: Sequence[str], digest: Sequence[float]
) -> tuple[tuple[str, float], ...]:
    """Log-probabilities as of a real endpoint: spellings of the symbols, and a little of other tokens."""
    mass = 0.93 + 0.065 * digest[1]
    shares: dict[str, float] = {}
    for symbol, p in zip(symbols, probs, strict=True):
        for text, part in ((symbol, 0.9), (f" {symbol}", 0.08), (symbol.swapcase(), 0.02)):
            shares[text] = shares.get(text, 0.0) + mass * part * p
    for text, part in (("The", 0.5), ("**", 0.3), ("\n", 0.15)):
        shares.setdefault(text, (1 - mass) * part)
    ranked = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP]
    return tuple((text, round(math.log(max(share, 1e-12)), 6)) for text, share in ranked)


def _draws(*parts: object) -> list[float]:
    """Eight numbers in (0, 1) that depend on every part and on nothing else."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    raw = hashlib.blake2b(text, digest_size=64).digest()
    return [(int.from_bytes(raw[i : i + 8]) + 0.5) / 2**64 for i in range(0, 64, 8)]


def _logistic(u: float) -> float:
    u = min(max(u, 1e-9), 1 - 1e-9)
    return math.log(u / (1 - u))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -60.0), 60.0)))


def _softmax(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    parts = [math.exp(score - top) for score in scores]
    total = sum(parts)
    return [part / total for part in parts]
