"""Send the questions of a decision judge to its endpoint; `judges.decision_wire` holds both wires."""

import json
from collections.abc import Mapping
from typing import Any

from trustescalate.judges.completions import tokens_of
from trustescalate.judges.decision_wire import MOST_QUESTIONS, PATHS, Api, body_of, read_answers
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.transport import Call
from trustescalate.records import Reply, Request, Usage


class DecisionsBackend:
    """A decision model behind one of two wires. The settings are those of `Endpoint`.

    `extra` wins over the body. `base_url` is what stands before `/decisions` or `/systemone`.
    """

    def __init__(
        self, *, model: str, api: Api = "decisions", extra: Mapping[str, Any] | None = None, **reached: Any
    ) -> None:
        self._model, self._api, self._extra = model, api, dict(extra or {})
        self._endpoint = Endpoint(model=model, **reached)

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def complete(self, request: Request) -> Reply:
        """Ask all questions of a request (`decision_wire.request_of`) at once; the text is a list of answers.

        A failure is a value, as for every backend; a question without an answer is null in the list.
        """
        count = len(request.messages) - 1
        if count > MOST_QUESTIONS:
            why = f"{count} questions, and a request takes {MOST_QUESTIONS}"
            return Reply(why, None, "stop", Usage(), "bad_request")
        content = body_of(self._api, self._model, request) | self._extra
        size = tokens_of(sum(len(message.content) for message in request.messages))

        def read(body: bytes) -> tuple[Reply, int] | None:
            seen = read_answers(body, count)
            if seen is None:
                return None
            text = json.dumps(seen.answers, ensure_ascii=False)
            return Reply(text, None, "stop", seen.usage, served=seen.served), seen.usage.input_tokens

        call = Call(
            "POST",
            PATHS[self._api],
            lambda: json.dumps(content, ensure_ascii=False).encode(),
            tokens=2 * size,
        )
        reply, answer = await self._endpoint.exchange(call, read)
        if reply is None:
            return self._endpoint.failed(answer)
        return self._endpoint.with_input(self._endpoint.cleaned(reply), size)
