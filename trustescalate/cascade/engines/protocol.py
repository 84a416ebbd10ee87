"""What an engine is, and the engine of a name."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol

from trustescalate.errors import UsageError
from trustescalate.judges.placement import Notice, Placement

ENGINES: Mapping[str, str] = {
    "local": "trustescalate.cascade.engines.local:LocalEngine",
    "ray": "trustescalate.cascade.engines.ray:RayEngine",
}
"""Imported on use."""


class Engine(Protocol):
    """Opens a placement for the judges of one command, and ends what it started for it."""

    def open(self, models: int, notice: Notice) -> AbstractContextManager[Placement]:
        """A placement for so many models beside all transports; `notice` receives what happens to it."""
        ...


def engine_of(name: str, address: str | None = None) -> Engine:
    """The engine of a name; `address` is that of a Ray cluster. Raises UsageError for others.

    >>> type(engine_of("local")).__name__
    'LocalEngine'
    """
    if name not in ENGINES:
        raise UsageError(f"unknown engine {name!r}", f"engines are {' and '.join(ENGINES)}")
    if name == "local" and address is not None:
        raise UsageError("an address is that of a Ray cluster", "add --engine ray, or leave out --address")
    module, _, of = ENGINES[name].partition(":")
    factory: Callable[..., Any] = getattr(import_module(module), of)
    engine: Engine = factory() if address is None else factory(address)
    return engine
