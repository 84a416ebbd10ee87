"""From a judge's table in the configuration to a judge. A new provider is a file and a row in `BACKENDS`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from trustescalate.config import AskedTable, Config, ModelTable, PluginJudge, Price
from trustescalate.config import ReplayJudge as ReplayTable
from trustescalate.config import RewardJudge as RewardTable
from trustescalate.errors import ConfigError, DataError
from trustescalate.jsonl import digest
from trustescalate.judges.base import Ask, Backend, EnsembleJudge, Judge, Tariff
from trustescalate.judges.pacing import Lanes
from trustescalate.judges.prompts import Asking, Exemplar, conversation, prefix
from trustescalate.judges.reading import condensed
from trustescalate.judges.replay import ReplayJudge, load_votes
from trustescalate.judges.reward import RewardJudge, ScoringBackend
from trustescalate.judges.templates import read_wording
from trustescalate.types import Channel, Item, Reply, Request

BACKENDS: Mapping[str, str] = {
    "local": "trustescalate.judges.local.backend:LocalBackend",
    "openai": "trustescalate.judges.openai:OpenAIBackend",
    "reward": "trustescalate.judges.local.rewards:LocalScorer",
    "simulated": "trustescalate.simulate:SimulatedBackend",
}
"""Imported when used. `replay` is no backend: it is a judge already. `reward` is a `Scorer`."""

PLUGINS = "trustescalate.backends"
JUDGING = 2
"""Raised whenever the same reply would be read differently: then old certificates no longer fit."""

NOT_AN_ARGUMENT = {"name", "price", "backend", "channel", "mode", "max_tokens", "prompt", "scale"}
NOT_THE_MODEL = {
    *NOT_AN_ARGUMENT,
    *("api_key_env", "concurrency", "timeout", "attempts", "give_up_after"),
    *("attn_implementation", "batch_size", "device", "prefix_mib"),
    *("requests_per_minute", "tokens_per_minute"),
}
"""Fields that change no reply: how a model is reached, paid and held, and what is done with what it said."""
Wrap = Callable[[Ask, str, Tariff], Ask]
"""How a caller puts its cache and budget around a backend: (ask, identity of the endpoint, tariff) -> ask."""


def open_judges(
    config: Config,
    exemplars: Sequence[Sequence[Exemplar]],
    *,
    wrap: Wrap,
    notice: Callable[[str], None],
    channels: Mapping[str, Channel] | None = None,
    opened: Callable[[AskedTable, Callable[[str], None]], Backend] | None = None,
) -> tuple[list[Judge], list[Backend]]:
    """The judges of a configuration, cheapest first, and the backends to be closed when done.

    `channels` fixes the verdict channel of judges that a certificate was made with. `opened` stands in for
    `open_backend`: a rehearsal puts simulated models in the place of real ones.
    """
    judges: list[Judge] = []
    backends: list[Backend] = []
    recorded, lanes = _recorded(config), Lanes()
    for table in config.judges:
        if isinstance(table, ReplayTable):
            judges.append(recorded[table.name])
            continue
        backend = opened(table, notice) if opened else open_backend(table, notice, lanes)
        backends.append(backend)
        prices = tariff(table.price)
        ask = wrap(_condensing(backend.complete), _endpoint(table), prices)
        if isinstance(table, RewardTable):
            sealed, task = fingerprint(config, table, ()), config.task.task()
            judges.append(RewardJudge(table.name, sealed, task, ask, scale=table.scale, tariff=prices))
            continue
        channel = (channels or {}).get(table.name) if table.channel == "auto" else table.channel
        judges.append(ensemble_judge(config, table, exemplars, ask, channel=channel, notice=notice))
    return judges, backends


def ensemble_judge(
    config: Config,
    table: ModelTable,
    exemplars: Sequence[Sequence[Exemplar]],
    ask: Ask,
    *,
    channel: Channel | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> EnsembleJudge:
    """The judge that a table describes, its questions put to `ask`."""
    return EnsembleJudge(
        table.name,
        fingerprint(config, table, exemplars),
        config.task.task(),
        exemplars,
        ask,
        swap=config.ensemble.swap,
        samples=config.ensemble.samples,
        channel=channel,
        tariff=tariff(table.price),
        notice=notice,
        asking=asking(config, table),
        max_tokens=table.max_tokens,
    )


def asking(config: Config, table: ModelTable) -> Asking:
    """The mode of a judge and its wording: its own prompt file, one of [prompts] folder, or the shipped one.

    Raises ConfigError for a file that is wrong, or that has no place for the rubric or criteria of [task].
    """
    rubric, criteria = config.rubric(), config.task.criteria
    needed = [*["rubric"] * bool(rubric), *["criteria"] * bool(criteria)]
    named = table.prompt
    if named is None and config.prompts.folder is not None:
        named = f"{config.prompts.folder}/{table.mode}.txt"
    wording = read_wording(None if named is None else config.path(named), table.mode, needed)
    return Asking(table.mode, wording, rubric, criteria)


def _condensing(ask: Ask) -> Ask:
    """Keep of a reply with reasoning the log-probabilities that can be read: else the cache would burst."""

    async def asked(request: Request) -> Reply:
        reply = await ask(request)
        if request.mode == "direct" or reply.tokens is None:
            return reply
        return replace(reply, tokens=condensed(reply.tokens, request.symbols))

    return asked


def open_backend(table: AskedTable, notice: Callable[[str], None], lanes: Lanes | None = None) -> Backend:
    """Import and build the backend of a judge's table. Those with the same `lanes` share endpoints."""
    kind, arguments = table.backend, table.model_dump(exclude=NOT_AN_ARGUMENT)
    if isinstance(table, PluginJudge):
        factory, arguments = _plugin(kind), dict(table.options)
    else:
        module, _, name = BACKENDS[kind].partition(":")
        factory = getattr(import_module(module), name)
    if kind in ("local", "openai"):
        arguments["notice"] = notice
    if kind == "openai":
        arguments["lanes"] = lanes
    try:
        made = factory(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"judge {table.name!r}: {error}", "mend its options") from error
    backend: Backend = ScoringBackend(made) if isinstance(table, RewardTable) else made
    return backend


def fingerprint(
    config: Config, table: AskedTable, exemplars: Sequence[Sequence[Exemplar]], reader: int | None = None
) -> str:
    """A hash of all that can change what a judge says: model, endpoint, wording, examples, sampling.

    The wording is in it as it is shown: a comment in a prompt file changes nothing. `reader` is the version
    of the reader, today's if none is given.
    """
    task = config.task.task()
    if isinstance(table, RewardTable):
        return digest(reader or JUDGING, _endpoint(table), table.scale, task.kind, task.labels)
    how = asking(config, table)
    probe = Item("probe", "prompt", ("first", "second")[: task.responses])
    shown = [
        [
            [m.role, m.content]
            for m in conversation(task, prefix(task, shots, how), probe, asking=how).messages
        ]
        for shots in exemplars
    ]
    given = [] if (table.mode, table.max_tokens) == ("direct", None) else [table.mode, table.max_tokens]
    settings = (config.ensemble.swap, config.ensemble.samples, table.channel, *given)
    return digest(reader or JUDGING, _endpoint(table), shown, *settings)


def tariff(price: Price) -> Tariff:
    """The prices of a table, with cached input at the price of input unless it has its own."""
    cached = price.input if price.cached_input is None else price.cached_input
    return Tariff(price.input, price.output, cached, price.request)


def needs_exemplars(config: Config) -> bool:
    """Whether any judge is shown examples."""
    return config.ensemble.shots > 0 and any(
        table.backend not in ("replay", "reward") for table in config.judges
    )


def _recorded(config: Config) -> dict[str, ReplayJudge]:
    """The judges that are replayed. Raises DataError with the problems of all their files."""
    judges: dict[str, ReplayJudge] = {}
    problems: list[str] = []
    for table in config.judges:
        if isinstance(table, ReplayTable):
            prices = tariff(table.price) if table.price != Price() else None
            try:
                rows = load_votes(config.path(table.votes), config.task.task(), table.of or table.name)
                judges[table.name] = ReplayJudge(table.name, rows, prices)
            except DataError as error:
                problems += error.problems
    if problems:
        raise DataError(
            list(dict.fromkeys(problems)), "record the votes again, or mend the lines named above"
        )
    return judges


def _endpoint(table: AskedTable) -> str:
    return digest(table.backend, table.model_dump(mode="json", exclude=NOT_THE_MODEL))


def _plugin(kind: str) -> Callable[..., Any]:
    found = {entry.name: entry for entry in entry_points(group=PLUGINS)}
    if kind in found:
        try:
            factory: Callable[..., Any] = found[kind].load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"backend {kind!r} cannot be loaded: {error}", "install it again") from error
        return factory
    known = sorted({"replay", *BACKENDS, *found})
    near = get_close_matches(kind, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known backends are {', '.join(known)}"
    raise ConfigError(f"unknown backend {kind!r}", hint)
