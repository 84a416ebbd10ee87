"""Open the judges of a configuration. A new provider is a module and a row in `BACKENDS`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from trustescalate.config import (
    AskedTable,
    ChatTable,
    Config,
    EndpointTable,
    ModelTable,
    PluginJudge,
    Price,
    verdict_free_keys,
)
from trustescalate.config import CallableJudge as CallableTable
from trustescalate.config import ClassicalJudge as ClassicalTable
from trustescalate.config import DecisionsJudge as DecisionsTable
from trustescalate.config import ReplayJudge as ReplayTable
from trustescalate.config import RewardJudge as RewardTable
from trustescalate.config import ScoreJudge as ScoreTable
from trustescalate.errors import ConfigError, DataError
from trustescalate.judges.base import (
    Ask,
    Backend,
    EnsembleJudge,
    Judge,
    Tariff,
    are_log_probabilities,
)
from trustescalate.judges.decisions import DecisionJudge, decision_request
from trustescalate.judges.distilled import FittingRows, UnfittedJudge
from trustescalate.judges.functions import Function, FunctionJudge
from trustescalate.judges.placement import HERE, Notice, Placement
from trustescalate.judges.prompts import Asking, Exemplar, conversation, orders, prefix, symbols
from trustescalate.judges.rate_limits import Lanes
from trustescalate.judges.replay import ReplayJudge, load_votes
from trustescalate.judges.reply_parsing import condensed
from trustescalate.judges.reward import RewardJudge, ScoringBackend
from trustescalate.judges.templates import read_wording
from trustescalate.records import Channel, Item, Reply, Request, Task, TaskKind, Usage
from trustescalate.records.criteria import AskedCriterion, row_name
from trustescalate.records.jsonl import digest

BACKENDS: Mapping[str, str] = {
    "callable": "trustescalate.judges.functions:FunctionBackend",
    "decisions": "trustescalate.judges.decision_endpoint:DecisionsBackend",
    "litellm": "trustescalate.judges.litellm:LiteLLMBackend",
    "local": "trustescalate.judges.local.backend:LocalBackend",
    "mock": "trustescalate.judges.mock:MockBackend",
    "openai": "trustescalate.judges.openai:OpenAIBackend",
    "reward": "trustescalate.judges.local.rewards:LocalScorer",
    "score": "trustescalate.judges.score:ScoreBackend",
    "simulated": "trustescalate.judges.simulated:SimulatedBackend",
    "vllm": "trustescalate.judges.vllm:VLLMBackend",
}
"""Imported on use. `replay` and `classical` are judges, no backends; `reward` is a `Scorer`."""

MODELS = frozenset({"local", "reward", "vllm"})
"""Backends that hold a model in memory, and so are opened where an engine places them."""

PLUGINS = "trustescalate.backends"
JUDGING = 3
"""Version of the reply parser: with another one, old certificates no longer apply."""

NOT_AN_ARGUMENT = {
    *("name", "price", "backend", "channel", "mode", "max_tokens", "prompt", "same_model_as"),
    *("scale", "decision_threshold", "batch_discount", "batches_in_flight"),
}
"""Keys of parsing and pricing, which a backend does not take."""
NO_ROWS = FittingRows()
ItemTable = CallableTable | RewardTable | ScoreTable | DecisionsTable
"""Tables of judges that read items, not prompts."""
Opened = Callable[[AskedTable, Callable[[str], None]], Backend]
Wrap = Callable[[Ask, str, Tariff], Ask]
"""Puts cache and budget around a backend: (ask, identity of the endpoint, tariff) -> ask."""


def open_judges(
    config: Config,
    exemplars: Sequence[Sequence[Exemplar]],
    *,
    wrap: Wrap,
    notice: Callable[[str], None],
    channels: Mapping[str, Channel] | None = None,
    opened: Opened | None = None,
    rows: FittingRows = NO_ROWS,
    functions: Mapping[str, Function] | None = None,
    placement: Placement = HERE,
) -> tuple[list[Judge], list[Backend]]:
    """The judges of a configuration, cheapest first, and the backends to be closed when done.

    `channels` fixes the channels of a certificate's judges. `opened` replaces `open_backend`: a dry run uses
    simulated models. `rows` are the fitting rows of classical judges; those with `fit_on = "last_judge"` are
    left for `fit_judges`. `functions` replace those that tables name, by judge. `placement` says where models
    are reached.
    """
    judges: list[Judge] = []
    backends: list[Backend] = []
    recorded, lanes = recorded_judges(config), Lanes()
    for table in config.judges:
        if isinstance(table, ReplayTable):
            judges.append(recorded[table.name])
            continue
        if isinstance(table, ClassicalTable):
            judges.append(_classical(config, table, rows))
            continue
        if opened is None:
            function = (functions or {}).get(table.name)
            backend = open_backend(table, notice, config.folder, function, lanes, placement)
        else:
            backend = opened(table, notice)
        backends.append(backend)
        ask = wrap(condensing(backend.complete), endpoint_of(table, backend), _tariff(table))
        if isinstance(table, ItemTable):
            judges.append(_item_judge(config, table, backend, ask))
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
    """The judge of a table, with its requests sent to `ask`."""
    return EnsembleJudge(
        table.name,
        fingerprint(config, table, exemplars),
        config.task.task(),
        exemplars,
        ask,
        swap=config.ensemble.swap,
        samples=config.ensemble.samples,
        channel=channel,
        tariff=_tariff(table),
        notice=notice,
        asking=asking(config, table),
        max_tokens=table.max_tokens,
    )


def asking(config: Config, table: ModelTable) -> Asking:
    """The mode of a judge and its wording: its own prompt file, one of [prompts] folder, or the shipped one.

    Raises ConfigError for an invalid file, or one without a field for the rubric or criteria of [task].
    """
    rubric, criteria = config.rubric(), config.task.criteria
    needed = [*["rubric"] * bool(rubric), *["criteria"] * bool(criteria)]
    named = prompt_file(config, table)
    path, several = None if named is None else config.path(named), bool(config.criteria)
    wording = read_wording(path, table.mode, needed, several=several)
    return Asking(table.mode, wording, rubric, criteria, asked_criteria(config))


def asked_criteria(config: Config) -> tuple[AskedCriterion, ...]:
    """The criteria that one request asks, with the symbols that answer them; none without [[criteria]]."""
    return tuple(
        AskedCriterion(name, task.question, task.labels, symbols(task))
        for name, task in config.criterion_tasks().items()
    )


def prompt_file(config: Config, table: ModelTable) -> str | None:
    """The prompt file of a judge as the configuration names it; None for the shipped one."""
    if table.prompt is None and config.prompts.folder is not None:
        return f"{config.prompts.folder}/{table.mode}.txt"
    return table.prompt


def condensing(ask: Ask) -> Ask:
    """Keep of replies what `worth_keeping` keeps, so that the cache stays small and holds no NaN."""

    async def asked(request: Request) -> Reply:
        return worth_keeping(request, await ask(request))

    return asked


def worth_keeping(request: Request, reply: Reply) -> Reply:
    """Drop the log-probabilities of reasoning from a reply; one whose numbers are none is a "bad_reply"."""
    usage = reply.usage
    if min(usage.calls, usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.batched) < 0:
        reply = replace(reply, usage=Usage(calls=1))
    if reply.tokens is None:
        return reply
    kept = reply.tokens if request.mode == "direct" else condensed(reply.tokens, request.symbols)
    if not are_log_probabilities(kept):
        text = "a log-probability is above 0, or none"
        return replace(reply, text=text, tokens=None, failure="bad_reply")
    return reply if kept is reply.tokens else replace(reply, tokens=kept)


def _classical(config: Config, table: ClassicalTable, rows: FittingRows) -> Judge:
    def fit(examples: Sequence[Exemplar]) -> Judge:
        from trustescalate.judges.classical import ClassicalJudge

        return ClassicalJudge(
            table.name,
            config.task.task(),
            examples,
            model=table.model,
            fit_on=table.fit_on,
            seed=table.seed,
            tariff=tariff(table.price),
        )

    return UnfittedJudge(table.name, fit) if table.fit_on == "last_judge" else fit(rows.labelled)


def _item_judge(config: Config, table: ItemTable, backend: Backend, ask: Ask) -> Judge:
    """A judge that reads items, not prompts; its fingerprint includes the parser of its answers.

    That of a decision model includes all that it is shown of the task.
    """
    task, prices = config.task.task(), tariff(table.price)
    parts = [JUDGING, endpoint_of(table, backend), task.kind, task.labels]
    swap = config.ensemble.swap and task.kind is TaskKind.PAIRWISE
    if isinstance(table, DecisionsTable):
        rubric, criteria = config.rubric(), config.task.criteria
        each = config.criterion_tasks()
        asked, order = list(each.values()) or [task], orders(task, swap=swap)
        shown = decision_request(asked, _probe(task), order, rubric, criteria).messages
        mark = digest(*parts, [message.content for message in shown])
        return DecisionJudge(
            table.name,
            mark,
            task,
            ask,
            swap=swap,
            rubric=rubric,
            criteria=criteria,
            tariff=prices,
            each=each,
            name_of=lambda item: row_name(item).criterion,
        )
    if isinstance(table, CallableTable):
        tasks = config.criterion_tasks()
        mark = digest(*parts, swap, *([tasks] if tasks else []))
        return FunctionJudge(table.name, mark, task, ask, swap=swap, tariff=prices, criteria=tasks)
    decision_threshold = getattr(table, "decision_threshold", 0.0)
    mark = digest(*parts, table.scale, decision_threshold if task.kind is TaskKind.BINARY else None)
    return RewardJudge(
        table.name, mark, task, ask, scale=table.scale, decision_threshold=decision_threshold, tariff=prices
    )


def open_backend(
    table: AskedTable,
    notice: Callable[[str], None],
    folder: Path = Path(),
    function: Function | None = None,
    lanes: Lanes | None = None,
    placement: Placement = HERE,
) -> Backend:
    """Import and build the backend of a judge's table. User modules are in `folder`.

    Backends with the same `lanes` share rate limits. `placement` says where models are reached.
    """
    kind, arguments = table.backend, table.model_dump(exclude=NOT_AN_ARGUMENT)
    if kind in MODELS:
        return placement.model(table.name, partial(_load, table.name, kind, arguments), notice, _gpus(table))
    factory = _factory(kind)
    if isinstance(table, PluginJudge):
        arguments = dict(table.options)
    if kind == "callable":
        arguments |= {"folder": folder} if function is None else {"function": function}
    if isinstance(table, EndpointTable):
        arguments |= {"notice": notice, "lanes": lanes, "place": placement.transport}
    backend: Backend = _built(table.name, factory, arguments)
    return backend


def _load(name: str, kind: str, arguments: Mapping[str, Any], notice: Notice) -> Backend:
    """Load the model of a judge."""
    more = {"notice": notice} if kind == "local" else {}
    built = _built(name, _factory(kind), {**arguments, **more})
    backend: Backend = ScoringBackend(built) if kind == "reward" else built
    return backend


def _gpus(table: AskedTable) -> int | None:
    """The GPUs that a judge's model fills, where there are any; None for all those of a machine."""
    spread = getattr(table, "device", "") == "spread"
    return None if spread else getattr(table, "tensor_parallel_size", 1)


def _factory(kind: str) -> Callable[..., Any]:
    if kind not in BACKENDS:
        return _plugin(kind)
    module, _, name = BACKENDS[kind].partition(":")
    factory: Callable[..., Any] = getattr(import_module(module), name)
    return factory


def _built(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What a factory builds. Raises ConfigError for arguments that it does not take."""
    try:
        return factory(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"judge {name!r}: {error}", "fix its options") from error


def fingerprint(
    config: Config, table: ModelTable, exemplars: Sequence[Sequence[Exemplar]], reader: int | None = None
) -> str:
    """A hash of everything that can change a judge's votes: model, endpoint, wording, examples, sampling.

    The wording counts as shown: a comment in a prompt file changes nothing. `reader` is the version of the
    parser, by default the current one.
    """
    task = config.task.task()
    how = asking(config, table)
    asked = [conversation(task, prefix(task, shots, how), _probe(task), asking=how) for shots in exemplars]
    shown = [[[m.role, m.content] for m in each.messages] for each in asked]
    given = [] if (table.mode, table.max_tokens) == ("direct", None) else [table.mode, table.max_tokens]
    settings = (config.ensemble.swap, config.ensemble.samples, table.channel, *given)
    return digest(reader or JUDGING, endpoint_of(table), shown, *settings)


def _probe(task: Task) -> Item:
    """An item that shows the wording of a judge's requests."""
    return Item("probe", "prompt", ("first", "second")[: task.responses])


def tariff(price: Price) -> Tariff:
    """The prices of a table, with cached input at the price of input unless it has its own."""
    cached = price.input if price.cached_input is None else price.cached_input
    return Tariff(price.input, price.output, cached, price.request)


def _tariff(table: AskedTable) -> Tariff:
    prices = tariff(table.price)
    return replace(prices, batch=table.batch_discount) if isinstance(table, ChatTable) else prices


def asked_names(config: Config) -> list[str]:
    """The judges that have a backend, in the order in which `wrap` is called for them."""
    return [table.name for table in config.judges if not isinstance(table, ReplayTable | ClassicalTable)]


def recorded_judges(config: Config) -> dict[str, ReplayJudge]:
    """Read the recorded judges. Raises DataError with the problems of all their files."""
    judges: dict[str, ReplayJudge] = {}
    problems: list[str] = []
    for table in config.judges:
        if isinstance(table, ReplayTable):
            prices = tariff(table.price) if table.price != Price() else None
            try:
                rows = load_votes(
                    config.path(table.votes),
                    config.task.task(),
                    table.of or table.name,
                    config.criterion_tasks(),
                )
                judges[table.name] = ReplayJudge(table.name, rows, prices)
            except DataError as error:
                problems += error.problems
    if problems:
        raise DataError(list(dict.fromkeys(problems)), "record the votes again, or fix the lines named above")
    return judges


def endpoint_of(table: AskedTable, backend: Backend | None = None) -> str:
    """A hash of a judge's model and how it is asked. A backend may add to its table (`identity`)."""
    more = getattr(backend, "identity", None)
    skipped = NOT_AN_ARGUMENT | verdict_free_keys(type(table))
    keys = table.model_dump(mode="json", exclude=skipped)
    if address := getattr(table, "same_model_as", None):
        keys["base_url"] = address
    parts = (table.backend, keys)
    return digest(*parts) if more is None else digest(*parts, more)


def _plugin(kind: str) -> Callable[..., Any]:
    plugins = {entry.name: entry for entry in entry_points(group=PLUGINS)}
    if kind in plugins:
        try:
            factory: Callable[..., Any] = plugins[kind].load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"backend {kind!r} cannot be loaded: {error}", "install it again") from error
        return factory
    known = sorted({"classical", "replay", *BACKENDS, *plugins})
    near = get_close_matches(kind, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known backends are {', '.join(known)}"
    raise ConfigError(f"unknown backend {kind!r}", hint)
