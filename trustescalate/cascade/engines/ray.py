"""The engine of a Ray cluster: actors send the calls to endpoints and hold local models.

Needs the extra `trustescalate[ray]`, on every node. A key reaches an actor as an argument of a call, which
Ray keeps in memory alone; runtime environments and names of actors, which it writes to logs, hold none.
"""

import asyncio
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from trustescalate.cascade.engines.workers import Lost, Remote, Worker, Workers
from trustescalate.errors import ConfigError, ProviderError, UsageError
from trustescalate.judges.placement import Notice, Placement

LEAST_SENDERS, MOST_SENDERS = 2, 16
"""Workers that send calls; two, so that one goes on while the other restarts."""
CALLS = 100_000
"""In flight in one worker: the limits are those of the judges, which hold for all workers together."""
START = 120.0
"""Seconds in which a worker must start."""
HEAD = re.compile(r"([^\s:/@]+|\[[0-9a-fA-F:.]+\]):\d{1,5}")
KNOCK = 10.0
"""Seconds in which the head of a cluster must accept a connection."""
PING, PAUSE, LONGEST_PAUSE = 10.0, 0.2, 5.0
STORE_BYTES = 256 * 2**20
"""Memory for large answers, of a cluster that is started here."""
QUIET: Mapping[str, str] = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a cluster started here listens at the loopback interface
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""The environment of a cluster that is started here."""


class RayEngine:
    """Reaches endpoints and holds models in actors of a Ray cluster.

    `address` is that of a cluster ("host:port", or "auto" on one of its nodes), which goes on afterwards.
    Without one, the cluster to which this process is connected is used, or else one is started on this
    machine, and ended afterwards. Opening raises ConfigError without Ray, UsageError for an address that
    cannot be used, and ProviderError where no cluster answers or no worker starts.
    """

    def __init__(self, address: str | None = None) -> None:
        if address is not None and address != "auto" and not HEAD.fullmatch(address):
            raise UsageError(
                f"{address!r} is no address of a cluster's head", 'give "host:port", or "auto" on a node'
            )
        self._address = address

    @contextmanager
    def open(self, models: int, notice: Notice) -> Iterator[Placement]:
        """A placement on the cluster."""
        with _connected(self._address) as ray:
            cluster = RayCluster(ray, models)
            workers = Workers(cluster, lambda text: notice(f"Ray: {text}"))
            notice(f"Ray: {cluster.describe()}")
            try:
                yield workers
            finally:
                workers.end()
                cluster.end()


class RayCluster:
    """The cluster that this process is connected to, for judges with so many models."""

    def __init__(self, ray: Any, models: int) -> None:
        self._ray, self._models = ray, models
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._nodes = [node for node in nodes if node["Resources"].get("CPU", 0) > 0] or nodes
        self._actors: list[Actor] = []

    def describe(self) -> str:
        """Its size in words."""
        kinds = [(len(self._nodes), "node")]
        kinds += [(int(self._total(name)), name) for name in ("CPU", "GPU") if self._total(name)]
        return ", ".join(f"{count} {name}" + ("s" if count != 1 else "") for count, name in kinds)

    def senders(self) -> Sequence[Remote]:
        """One worker a node, and at least two."""
        count = min(max(LEAST_SENDERS, len(self._nodes)), MOST_SENDERS)
        return [self._start(self._nodes[n % len(self._nodes)], num_cpus=0) for n in range(count)]

    def holders(self, judge: str, gpus: int | None) -> Sequence[Remote]:  # noqa: ARG002
        """As many workers as the judge's share of the GPUs allows; without GPUs, one a node."""
        total = self._total("GPU")
        if not total:
            return [self._start(node, num_cpus=_part(node["Resources"].get("CPU", 0) / self._models))
                    for node in self._nodes]  # fmt: skip
        whole = max(int(node["Resources"].get("GPU", 0)) for node in self._nodes)
        share, needed = total / self._models, whole if gpus is None else gpus
        if share < needed == 1:
            return [self._start(None, num_cpus=0, num_gpus=_part(share))]
        count = max(1, int(share // needed))
        return [self._start(None, num_cpus=0, num_gpus=needed) for _ in range(count)]

    def wait(self, remotes: Sequence[Remote], method: str, *given: Any) -> list[Any]:
        """Call a method of several workers at once, before any other work. Raises ProviderError."""
        errors = self._ray.exceptions
        actors = [actor for actor in remotes if isinstance(actor, Actor)]
        try:
            seconds = START if method == "version" else None
            return list(self._ray.get([actor.begin(method, *given) for actor in actors], timeout=seconds))
        except errors.GetTimeoutError:
            raise ProviderError(
                f"Ray started no worker within {START:.0f} s",
                "see `ray status`: other jobs may have the CPUs or GPUs",
            ) from None
        except (errors.RayActorError, errors.ActorUnschedulableError, errors.RuntimeEnvSetupError) as error:
            last = f"{error}".strip().splitlines()[-1].strip()
            raise ProviderError(
                f"a Ray worker cannot start: {last}", "install trustescalate[ray] on every node"
            ) from None

    def end(self) -> None:
        """End all workers."""
        for actor in self._actors:
            actor.end()

    def _start(self, node: Mapping[str, Any] | None, **resources: float) -> "Actor":
        options: dict[str, Any] = {"max_concurrency": CALLS, "max_restarts": -1, **resources}
        self._actors.append(actor := Actor(self._ray, options, None if node is None else node["NodeID"]))
        return actor

    def _total(self, resource: str) -> float:
        return float(sum(node["Resources"].get(resource, 0) for node in self._nodes))


class Actor:
    """A `Worker` in an actor. Ray starts it again on its node; once that is gone, it is replaced on any.

    A preference for a node is no use: soon after a connection Ray would start all on one node.
    """

    def __init__(self, ray: Any, options: Mapping[str, Any], node: str | None) -> None:
        self._ray, self._options = ray, options
        self._handle = self._start(node)
        errors = ray.exceptions
        self._dead = (errors.ActorDiedError, errors.ActorUnschedulableError)
        self._lost = (
            *self._dead,
            *(errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError),
        )

    def begin(self, method: str, *given: Any) -> Any:
        """Call a method; return what Ray calls the reference of its result."""
        return getattr(self._handle, method).remote(*given)

    async def call(self, method: str, *given: Any) -> Any:
        """Call a method. Raises `Lost`; a call that is cancelled here is cancelled there."""
        reference = self.begin(method, *given)
        try:
            return await reference
        except asyncio.CancelledError:
            self._ray.cancel(reference)
            raise
        except self._lost as error:
            raise Lost from error

    async def revive(self) -> None:
        """Return when the actor answers again; one that Ray does not start again is replaced."""
        pause = PAUSE
        while True:
            try:
                async with asyncio.timeout(PING):
                    await self.begin("version")
            except self._dead:
                self._handle = self._start(None)
            except (*self._lost, TimeoutError):
                pass
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _start(self, node: str | None) -> Any:
        options = dict(self._options)
        if node is not None:
            strategies = import_module("ray.util.scheduling_strategies")
            options["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        return self._ray.remote(Worker).options(**options).remote()

    def end(self) -> None:
        """End it."""
        with suppress(Exception):  # the cluster may have gone
            self._ray.kill(self._handle)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster; disconnected afterwards, unless it was connected before."""
    before = {name: os.environ.get(name) for name in (*QUIET, "RAY_AUTH_MODE")}
    if address is None:
        os.environ.update(QUIET)  # read when Ray is imported, and when it starts
    try:
        ray = _load()
        if ray.is_initialized():
            if address is not None:
                raise UsageError("this process is connected to Ray already", "leave out the address")
            yield ray
            return
        _connect(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _load() -> Any:
    """Import Ray. Raises ConfigError without it."""
    try:
        return import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"--engine ray needs the package ray ({error})", "pip install 'trustescalate[ray]'"
        ) from error


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster, or start one. Ray prints nothing but errors, and nothing of its workers."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)
        else:
            _knock(address)
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        first = next(iter(f"{error}".strip().splitlines()), type(error).__name__)
        where = "on this machine" if address is None else f"at {address}"
        raise ProviderError(
            f"there is no Ray cluster {where}: {first}", "see `ray status`, and the address of its head"
        ) from error


def _knock(address: str) -> None:
    """Raise OSError where nothing listens; Ray itself would try for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()


def _part(share: float) -> float:
    """A share of CPUs or GPUs as Ray takes it: whole above 1, and in thousandths below."""
    return int(share) if share >= 1 else int(share * 1000) / 1000
