"""HTTP to an endpoint that takes OpenAI's keys, for what is no chat completion: scores, files, batches.

One attempt is an `Answer`, whatever happens. Keys are handled as for chat completions: named, never stored.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import openai

from trustescalate.errors import ProviderError
from trustescalate.judges.completions import Answer, backoff
from trustescalate.judges.openai import OPENAI_KEY, OPENAI_URL, _http, _http_client, _key, _public_url


class Endpoint:
    """A base address with a key. An instance belongs to one event loop; `close` it there.

    `timeout` bounds one attempt and `give_up_after` all of them with the waits between, in seconds. Raises
    ProviderError if the variable `api_key_env` is not set.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key_env: str | None = None,
        concurrency: int = 16,
        timeout: float = 60.0,
        attempts: int = 6,
        give_up_after: float = 300.0,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = _public_url(base_url or OPENAI_URL)
        at_home = self.place.startswith("https://api.openai.com/")
        self._key_name = api_key_env or (OPENAI_KEY if at_home else "")
        self._who = f"{model} at {self.place}"
        self._client = openai.AsyncOpenAI(
            api_key=_key(self._key_name, model),
            base_url=base_url or OPENAI_URL,
            max_retries=0,
            timeout=None,
            http_client=_http_client(concurrency),
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout, self._attempts, self._give_up_after = timeout, attempts, give_up_after
        self._rng, self._sleep, self._clock = rng or random.Random(), sleep, clock

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def exchange(
        self, method: str, path: str, *, attempts: int | None = None, **content: Any
    ) -> Answer:
        """Ask until there is an answer that asking again will not change. `content` is body, files or params.

        With `attempts` = 1 a lost answer is the caller's to look for: what it made may exist. Raises
        ProviderError where no request can succeed: the key, the address, the quota.
        """
        spent, attempt = 0.0, 0
        while True:
            async with self._slots:
                began = self._clock()
                answer = await self._attempt(method, path, content)
                spent += self._clock() - began
            self._must_not_be_doomed(answer)
            attempt += 1
            wait = backoff(attempt, answer.headers, self._rng)
            good = answer.failed is None and answer.status < 400
            exhausted = attempt >= (attempts or self._attempts) or spent + wait >= self._give_up_after
            if good or not answer.retryable or exhausted:
                return answer
            await self._sleep(wait)
            spent += wait

    def clean(self, text: str) -> str:
        """A text that can be stored: no key in it, and no half characters."""
        return text.replace(self._client.api_key, "***").encode("utf-8", "replace").decode()

    async def _attempt(self, method: str, path: str, content: Mapping[str, Any]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._send(method, path, **content)
            return Answer(response.status_code, response.headers, response.content)
        except openai.APIStatusError as error:
            return Answer(error.status_code, error.response.headers, error.response.content)
        except TimeoutError:
            return Answer(failed="timeout")
        except UnicodeEncodeError:
            return Answer(failed="bad_request")
        except Exception:  # a transport has errors of its own that the client lets through (broken HTTP)
            return Answer(failed="unreachable")

    async def _send(self, method: str, path: str, **content: Any) -> Any:
        if method == "GET":
            options: Any = {"params": content.get("params", {})}
            return await self._client.get(path, cast_to=_http.Response, options=options)
        if "files" in content:
            options = {"headers": {"Content-Type": "multipart/form-data"}}
            return await self._client.post(path, cast_to=_http.Response, options=options, **content)
        return await self._client.post(path, cast_to=_http.Response, **content)

    def _must_not_be_doomed(self, answer: Answer) -> None:
        key = f"the environment variable {self._key_name}" if self._key_name else "api_key_env (none is set)"
        if answer.status == 402 or answer.error.get("code") == "insufficient_quota":
            raise ProviderError(
                f"{self._who}: the account has no quota left", f"add credit to the account of {key}"
            )
        if answer.status == 401:
            raise ProviderError(f"{self._who}: the key is missing or refused (HTTP 401)", f"check {key}")
        if answer.status == 403 and answer.failure != "refused":
            raise ProviderError(f"{self._who}: access is denied (HTTP 403)", f"check what {key} may do")
        if answer.status in (404, 405, 410):
            raise ProviderError(
                f"{self._who}: no such model or address (HTTP {answer.status})",
                "check model and base_url, and whether it offers this API",
            )
