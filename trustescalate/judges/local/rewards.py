"""Run reward models on this machine (a sequence-classification head with one output) as a `Scorer`.

`judges.reward` turns the scores into votes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trustescalate.errors import ConfigError
from trustescalate.judges.local.batching import Batcher, BatchSize, out_of_memory
from trustescalate.judges.local.loading import ModelSettings, load, quantized
from trustescalate.judges.local.text import ChatText
from trustescalate.judges.reward import Unscored
from trustescalate.records import Message

Asked = tuple[tuple[Message, ...], str]


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A prompt and its response in token ids; any two can be scored together."""

    ids: list[int]
    group: None = None

    @property
    def size(self) -> int:
        return len(self.ids)


class LocalScorer:
    """A reward model from a folder or the hub; the settings are those of `loading.ModelSettings`.

    An exchange is shown in the model's chat template; without one, as the tokenizer's pair of prompt and
    response. A model that names no padding token scores one exchange at a time.

    Raises `ConfigError` if a package is missing or the head has more than one output, `ProviderError` if the
    model cannot be loaded or has no such head.
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
    ) -> None:
        settings = ModelSettings(model, revision, adapter, dtype, device, attn_implementation, quantize)
        loaded = load(settings, "score")
        outputs = loaded.model.config.num_labels
        if outputs != 1:
            raise ConfigError(
                f"{model!r} has {outputs} outputs; a reward model has one", "choose another model"
            )
        self._tokenizer, self._device = loaded.tokenizer, loaded.device
        self._text = ChatText(loaded.tokenizer, template=chat_template == "auto")
        self._model = quantized(loaded.model, quantize)
        config = loaded.model.config.get_text_config()
        self._context = getattr(config, "max_position_embeddings", None)
        self._pad = loaded.model.config.pad_token_id
        alone = self._pad is None or quantize == "int8-dynamic"
        size = BatchSize(1 if alone else batch_size, most=concurrency)
        self._batcher: Batcher[Asked, _Exchange, float] = Batcher(self._exchange, self._scored, size)

    async def score(self, prompt: tuple[Message, ...], response: str) -> float:
        """The raw output of the head."""
        try:
            return await self._batcher.ask((prompt, response))
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise Unscored("bad_request", "the exchange does not fit into memory") from None

    async def close(self) -> None:
        """Finish the current pass and drop the rest."""
        await self._batcher.close()

    def _exchange(self, asked: Asked) -> _Exchange:
        prompt, response = asked
        ids = self._text.exchange([*prompt, Message("assistant", response)])
        if self._context is not None and len(ids) > self._context:
            message = f"{len(ids)} tokens do not fit into the model's context of {self._context}"
            raise Unscored("bad_request", message)
        return _Exchange(ids)

    def _scored(self, exchanges: Sequence[_Exchange]) -> list[float]:
        import torch

        longest = max(exchange.size for exchange in exchanges)
        padded = [[*x.ids, *[self._pad or 0] * (longest - x.size)] for x in exchanges]
        seen = [[1] * x.size + [0] * (longest - x.size) for x in exchanges]
        inputs = {"input_ids": padded, "attention_mask": seen}
        with torch.inference_mode():
            given: Any = self._model(**{k: torch.tensor(v, device=self._device) for k, v in inputs.items()})
        return [float(score) for score in given.logits[:, 0].float().tolist()]
