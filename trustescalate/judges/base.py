"""What a backend and a judge are, and the few-shot ensemble that turns one into the other."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from trustescalate.types import Item, Judgment, Reply, Request, Vote

Ask = Callable[[Request], Awaitable[Reply]]
Enough = Callable[[Sequence[Vote], int], bool]


class Backend(Protocol):
    """A way to reach a model. One async method; everything else is configuration.

    A request that fails on its own account comes back as a `Reply` with a `failure`; a condition that dooms
    every request (wrong key, unknown model, no quota) raises `errors.ProviderError` with the fix named.
    """

    async def complete(self, request: Request) -> Reply:
        """Answer one request."""
        ...
