"""Where judges reach their models: in this process, unless an engine places them in others."""

from collections.abc import Callable
from typing import Protocol

from trustescalate.judges.base import Backend
from trustescalate.judges.transport import Connect, Transport

Notice = Callable[[str], None]
Load = Callable[[Notice], Backend]
"""Loads a model. Like `Connect` it can be pickled, so that it may be called in another process."""


class Placement(Protocol):
    """Opens transports and models somewhere."""

    def transport(self, connect: Connect) -> Transport:
        """What sends the calls to an endpoint."""
        ...

    def model(self, judge: str, load: Load, notice: Notice, gpus: int | None) -> Backend:
        """A judge's model, which fills so many GPUs where there are any; None: all those of a machine.

        Raises what `load` raises.
        """
        ...


class Here:
    """Opens them in this process."""

    def transport(self, connect: Connect) -> Transport:
        """What sends the calls to an endpoint."""
        return connect()

    def model(self, judge: str, load: Load, notice: Notice, gpus: int | None) -> Backend:  # noqa: ARG002
        """A judge's model."""
        return load(notice)


HERE: Placement = Here()
