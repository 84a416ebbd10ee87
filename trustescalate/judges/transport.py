"""Say what sends the calls to an endpoint, and where its address and its key are."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from trustescalate.errors import ProviderError
from trustescalate.judges.completions import Answer

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
NO_KEY = "no-key-needed"
MOST_BYTES = 8 * 2**20
"""Of one answer, unpacked."""
Auth = Callable[[str], Mapping[str, str]]
"""The headers that carry a key."""


def _learn_nothing(_: Answer) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Call:
    """One call to an endpoint. `form` are the fields of a multipart form; a path is the file there.

    `body` is called for each attempt. `learn` receives an error and returns whether the next body will
    differ: then it is sent at once. `tokens` is an upper estimate; `first` puts the call before all queued
    ones. `attempts` overrides the endpoint's. An answer of more than `most_bytes` is a bad reply. With `into`
    the body of a success goes into that file, and `content` stays empty.
    """

    method: str
    path: str
    body: Callable[[], bytes] | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str | Path] = field(default_factory=dict)
    learn: Callable[[Answer], bool] = _learn_nothing
    tokens: int = 0
    first: bool = False
    attempts: int | None = None
    most_bytes: int = MOST_BYTES
    into: Path | None = None


class Transport(Protocol):
    """Sends one call; a failure is an `Answer`, never raised."""

    async def send(self, call: Call, seconds: float) -> Answer:
        """Send a call and read its answer within so many seconds."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


Connect = Callable[[], Transport]
"""Opens a transport. It can be pickled, so that it may be called in another process."""


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a model. `place` is shown, `address` separates the limits of endpoints with the same key.

    `key_at` says where the key is, for hints, and `at` where the address is; `secrets` appear in no text.
    `connect` opens what sends the calls.
    """

    place: str
    address: str
    key_at: str
    key: str
    secrets: tuple[str, ...]
    connect: Connect
    at: str


def key_place(name: str) -> str:
    """Where a key is, in words."""
    return f"the environment variable {name}" if name else "api_key_env (none is set)"


def read_key(name: str, model: str) -> str:
    """The key in an environment variable; `NO_KEY` without one. Raises ProviderError if it is not set."""
    if not name:
        return NO_KEY
    key = os.environ.get(name, "").strip()
    if not key:
        hint = f"export {name}=…, or name another variable in api_key_env"
        raise ProviderError(f"{model}: the environment variable {name} is not set", hint)
    if not (key.isascii() and key.isprintable()):
        raise ProviderError(f"{model}: the environment variable {name} holds no key", f"set {name} again")
    return key


def public_url(url: str) -> str:
    """An address without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
