"""Score a response at an endpoint: vLLM's `/score`; `/rerank` of Cohere, Jina and vLLM; and that of TEI.

The prompt is the query and the response the document. The score comes back as the text of a reply, and
`judges.reward` turns it into a vote.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from trustescalate.judges.completions import count_of, served_by, tokens_of
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.refusals import parsed
from trustescalate.judges.reward import LARGEST
from trustescalate.judges.transport import Call
from trustescalate.records import Message, Reply, Request, Usage

Api = Literal["score", "rerank", "tei"]


class ScoreBackend:
    """A model behind one of three dialects. The settings are those of `Endpoint`; `extra` wins over the body.

    `base_url` is what stands before `/score` or `/rerank`.
    """

    def __init__(
        self, *, model: str, api: Api = "score", extra: Mapping[str, Any] | None = None, **reached: Any
    ) -> None:
        self._model, self._api, self._extra = model, api, dict(extra or {})
        self._endpoint = Endpoint(model=model, **reached)

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def complete(self, request: Request) -> Reply:
        """Score one response. A failure is a value, as for every backend."""
        *turns, response = request.messages
        content = body(self._api, self._model, query(turns), response.content) | self._extra
        path = "/score" if self._api == "score" else "/rerank"
        call = Call("POST", path, lambda: json.dumps(content, ensure_ascii=False).encode())
        value, answer = await self._endpoint.exchange(call, _read)
        if value is None:
            return self._endpoint.failed(answer)
        tokens = tokens_of(sum(len(turn.content) for turn in request.messages))
        return self._endpoint.with_input(self._endpoint.cleaned(value), tokens)


def _read(content: bytes) -> tuple[Reply, int] | None:
    """The score as the text of a reply, which reads back to the same number."""
    value = read_score(content)
    if value is None:
        return None
    score, tokens = value
    return Reply(repr(score), None, "stop", Usage(1, tokens), served=served_by(parsed(content))), tokens


def query(turns: list[Message]) -> str:
    """The prompt as one text: as it is if it is one turn, else with roles.

    >>> query([Message("user", "Hi?")]), query([Message("user", "Hi?"), Message("assistant", "Yes.")])
    ('Hi?', 'user: Hi?\\n\\nassistant: Yes.')
    """
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)


BODIES: Mapping[Api, Callable[[str, str, str], dict[str, Any]]] = {
    "score": lambda model, prompt, text: {"model": model, "text_1": prompt, "text_2": text},
    "rerank": lambda model, prompt, text: {"model": model, "query": prompt, "documents": [text]},
    "tei": lambda _, prompt, text: {"query": prompt, "texts": [text], "raw_scores": True},
}


def body(api: Api, model: str, prompt: str, text: str) -> dict[str, Any]:
    """What is sent for one score.

    >>> body("score", "m", "Hi?", "Yes.")
    {'model': 'm', 'text_1': 'Hi?', 'text_2': 'Yes.'}
    """
    return BODIES[api](model, prompt, text)


def read_score(content: bytes) -> tuple[float, int] | None:
    """The one score of an answer in any of the three shapes, and the tokens that were counted; else None.

    >>> read_score(b'{"data": [{"index": 0, "score": 0.5}], "usage": {"prompt_tokens": 7}}')
    (0.5, 7)
    >>> read_score(b'{"results": [{"index": 0, "relevance_score": 0.25}]}'), read_score(b'[{"score": -1.5}]')
    ((0.25, 0), (-1.5, 0))
    """
    value = parsed(content)
    fields = value if isinstance(value, dict) else {}
    rows = value if isinstance(value, list) else fields.get("data", fields.get("results"))
    if not isinstance(rows, list) or len(rows) != 1 or not isinstance(rows[0], dict):
        return None
    score = rows[0].get("score", rows[0].get("relevance_score"))
    usage = fields.get("usage")
    counts = [usage.get("prompt_tokens"), usage.get("total_tokens")] if isinstance(usage, dict) else []
    if isinstance(score, bool) or not isinstance(score, int | float) or not -LARGEST <= score <= LARGEST:
        return None
    return float(score), next(filter(None, map(count_of, counts)), 0)
