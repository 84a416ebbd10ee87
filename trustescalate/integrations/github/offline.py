"""Judge from recorded votes alone, in a process that cannot reach the network."""

import os
import sys
from typing import Any

from trustescalate.config import BudgetTable, ClassicalJudge, Config, EndpointTable, ReplayJudge
from trustescalate.config.trust import needs_trust
from trustescalate.errors import BudgetReached, NotMeasurable, UsageError

CONNECTIONS = frozenset(
    {
        *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"),
        *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"),
    }
)
"""Audit events of the interpreter: connections, and look-ups of names."""
PROGRAMS = frozenset(
    {
        *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
        *("os.startfile", "pty.spawn"),
    }
)
"""Audit events of other programs, which the hook would not reach. Libraries ask some about the machine."""
NO_CALLS = BudgetTable.model_construct(usd=None, calls=0)
"""No call may be made: what the cache does not hold ends the run."""
UNUSED_KEY = "offline"
HINT = "run this gate on a branch of this repository, or name a recorded run with the input `run`"

_attempts: list[str] = []


def cut_off() -> None:
    """Refuse connections and other programs from here on, in this process, for good."""
    sys.addaudithook(_refuse)


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    if event in CONNECTIONS:
        _attempts.append(event)
    if event in CONNECTIONS or event in PROGRAMS:
        raise PermissionError(f"offline: {event} is refused")


def must_have_stayed_offline() -> None:
    """Raise NotMeasurable where anything tried to reach the network."""
    if _attempts:
        raise NotMeasurable(f"offline: {_attempts[0]} was attempted and refused", HINT)


def must_be_recorded(config: Config, *, asking: bool) -> None:
    """Raise NotMeasurable unless every judge replays votes, or is an endpoint, which the cache can answer.

    Functions, plugins and models run code of the project or load more. `asking`: judges are to be opened,
    which a recorded run needs not. Raises UsageError for files outside.
    Endpoints get a key that is none: no secret is needed to read the cache.
    """
    outside = [thing.what for thing in needs_trust(config) if thing.used_by == "any"]
    if outside:
        raise UsageError("\n  ".join(["offline: the project names files elsewhere:", *outside]), HINT)
    for table in config.judges if asking else ():
        if not isinstance(table, ReplayJudge | ClassicalJudge | EndpointTable):
            what = f"judge {table.name!r} (backend = {table.backend!r}) has no recorded votes"
            raise NotMeasurable(f"offline: {what}", HINT)
        if isinstance(table, EndpointTable):
            os.environ[table.api_key_env or "OPENAI_API_KEY"] = UNUSED_KEY


def not_recorded(_: BudgetReached) -> NotMeasurable:
    """The error of a run that needs a vote which is not recorded."""
    return NotMeasurable("offline: the cache does not hold every vote that this run needs", HINT)
