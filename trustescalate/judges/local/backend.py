"""Serve a causal language model as a backend: batch requests and read them at the next token.

The module turns requests into token ids and log-probabilities into replies; loading, batching and inference
are in the other modules of this package.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from trustescalate.judges.local.batching import Batcher, BatchSize, out_of_memory
from trustescalate.judges.local.loading import ModelSettings, load
from trustescalate.judges.local.replies import ALTERNATIVES, reads, reply_of, seed_of, token_of, too_long
from trustescalate.judges.local.scoring import SharedScorer, choice
from trustescalate.judges.local.text import ChatText
from trustescalate.records import Reply, Request, Token, Usage

MIB = 2**20


@dataclass(frozen=True, slots=True)
class _Question:
    """A request in token ids, and its shared prefix."""

    request: Request
    ids: list[int]
    prefix: tuple[int, ...]

    @property
    def reads(self) -> bool:
        """Whether the next token is the reply: a verdict without text before it."""
        return reads(self.request)

    @property
    def group(self) -> Hashable:
        """Requests of one group run in one pass: verdicts after one prefix, or text after one prompt."""
        rest = () if self.reads else (tuple(self.ids), self.request.max_tokens)
        return self.prefix, self.request.symbols, self.request.logprobs, rest

    @property
    def size(self) -> int:
        """Tokens."""
        return len(self.ids)


class _Candidates(NamedTuple):
    """Tokens at one place, the likeliest first, and their log-probabilities."""

    ids: list[int]
    logprobs: list[float]


class LocalBackend:
    """A causal language model from a folder or the hub.

    The settings are those of `loading.ModelSettings`. A request for log-probabilities and no more tokens than
    `MAX_TOKENS` is answered by a single one, its `finish` being "length"; others are generated to the end.
    At most `batch_size` requests are answered in one pass, "auto" to find by trying up to `concurrency`; keys
    and values of shared prefixes take at most `prefix_mib` of memory.

    Raises `ConfigError` without the packages that the settings need, `ProviderError` if the model cannot be
    loaded.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        adapter: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        attn_implementation: str | None = None,
        quantize: str | None = None,
        chat_template: Literal["auto", "none"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        concurrency: int = 64,
        prefix_mib: int = 2048,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        settings = ModelSettings(model, revision, adapter, dtype, device, attn_implementation, quantize)
        loaded = load(settings, "causal")
        self.text = ChatText(loaded.tokenizer, template=chat_template == "auto")
        self._scorer = SharedScorer(
            loaded,
            quantize=quantize,
            prefix_bytes=prefix_mib * MIB,
            notice=lambda message: notice(f"{model}: {message}"),
        )
        # Dynamic integers take their scale from the whole pass: requests must run alone to be independent.
        self._size = BatchSize(1 if quantize == "int8-dynamic" else batch_size, most=concurrency)
        self._batcher: Batcher[Request, _Question, Reply] = Batcher(
            self._question, self._answered, self._size
        )
        self._notice = notice
        self._model = model

    async def complete(self, request: Request) -> Reply:
        """Answer one request, together with others that are waiting."""
        try:
            return await self._batcher.ask(request)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return Reply("the prompt does not fit into memory", None, "stop", Usage(1), "bad_request")

    @property
    def batch_size(self) -> int:
        """The current number of requests per pass."""
        return self._size.now

    @property
    def prefix_bytes(self) -> int:
        """The memory of the keys and values of cached prefixes."""
        return self._scorer.prefix_bytes

    async def close(self) -> None:
        """Finish the current pass and drop the rest."""
        await self._batcher.close()

    def _question(self, request: Request) -> _Question:
        return _Question(request, self.text.encode(request.messages), self.text.prefix(request.messages))

    def _answered(self, questions: Sequence[_Question]) -> list[Reply]:
        """Reply to requests of a group. Where memory runs out, prefixes are dropped before requests."""
        fitting = [q for q in questions if self._fits(q)]
        try:
            replies = iter(self._attempted(fitting))
        except Exception as error:
            if not out_of_memory(error):
                raise
            self._scorer.forget()
            if len(fitting) > 1:
                self._notice(f"{self._model}: no memory for {len(fitting)} questions at once; now fewer are")
                raise
            replies = iter(self._attempted(fitting))
        return [next(replies) if self._fits(q) else self._too_long(q) for q in questions]

    def _attempted(self, questions: Sequence[_Question]) -> list[Reply]:
        if not questions:
            return []
        return self._read(questions) if questions[0].reads else self._generated(questions)

    def _read(self, questions: Sequence[_Question]) -> list[Reply]:
        """One pass, read at the next token."""
        symbols = questions[0].request.symbols
        logprobs = self._scorer.logprobs(questions[0].prefix, [q.ids for q in questions])
        tokens = [self._token(each) for each in self._candidates(logprobs, symbols)]
        return [self._reply(q, token.text, [token]) for q, token in zip(questions, tokens, strict=True)]

    def _generated(self, questions: Sequence[_Question]) -> list[Reply]:
        """Draws, or the likeliest text with alternatives, after one prompt."""
        request, ids, prefix = questions[0].request, questions[0].ids, questions[0].prefix
        room = request.max_tokens if self._scorer.context is None else self._scorer.context - len(ids)
        chooser = choice(
            [(q.request.temperature, _generator(q.request)) for q in questions],
            lambda logprobs: self._candidates(logprobs, request.symbols),
        )
        texts = self._scorer.continued(prefix, ids, max(1, min(request.max_tokens, room)), chooser)
        replies = []
        for i, (q, row) in enumerate(zip(questions, texts, strict=True)):
            tokens = [self._token(step[i], t) for step, t in zip(chooser.trace, row, strict=False)]
            replies.append(self._reply(q, self.text.decoded(row), tokens, ended=self._scorer.ended(row)))
        return replies

    def _candidates(self, logprobs: Any, symbols: tuple[str, ...]) -> list[_Candidates]:
        """The likeliest tokens of each row, and all that may begin a symbol."""
        top = logprobs.topk(min(ALTERNATIVES, logprobs.shape[1])).indices
        ids = [list(dict.fromkeys([*row, *self.text.spellings(symbols)])) for row in top.tolist()]
        return [_Candidates(row, logprobs[i, row].tolist()) for i, row in enumerate(ids)]

    def _token(self, candidates: _Candidates, chosen: int | None = None) -> Token:
        return token_of(self.text, zip(*candidates, strict=True), chosen)

    def _reply(self, question: _Question, text: str, tokens: list[Token], *, ended: bool = False) -> Reply:
        """Shared tokens count as cached for each request, the first one included."""
        shared = self._scorer.shared(question.prefix, question.ids)
        usage = Usage(1, len(question.ids), shared, len(tokens))
        return reply_of(question.request, text, tokens, usage, ended=ended)

    def _fits(self, question: _Question) -> bool:
        return self._scorer.context is None or question.size <= self._scorer.context

    def _too_long(self, question: _Question) -> Reply:
        return too_long(question.size, self._scorer.context)


def _generator(request: Request) -> Any:
    """A generator seeded by the request, so that equal requests draw equal text; None for greedy decoding."""
    if request.temperature <= 0:
        return None
    import torch

    return torch.Generator().manual_seed(seed_of(request))
