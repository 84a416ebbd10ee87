"""Ask judges about one item and show everything: the prompt, the reply, and how it was read."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from trustescalate.calibration.prepare import select_rows
from trustescalate.cascade.fit_judges import fitting_rows
from trustescalate.cascade.panel import Asking, Panel, open_panel
from trustescalate.cascade.runner import OUTAGES
from trustescalate.cascade.shared_replies import count_once
from trustescalate.config import BudgetTable, Config, EndpointTable
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.errors import DataError, TrustEscalateError, UsageError
from trustescalate.judges.base import NO_REPLY, Asked, EnsembleJudge, names_of
from trustescalate.judges.decisions import DecisionJudge
from trustescalate.judges.distilled import FittingRows
from trustescalate.judges.endpoint import ONE_MODEL
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.offered_models import advise, must_offer_one_model, unlisted
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.prompts import Exemplar, orders
from trustescalate.judges.registry import NO_ROWS
from trustescalate.judges.reply_parsing import condensed
from trustescalate.records import FAILURES, Item, Judgment, Message, Usage, Vote
from trustescalate.records.criteria import row_name
from trustescalate.records.progress import Hooks
from trustescalate.report.terminal import table_lines
from trustescalate.report.text import one_line

NO_MODEL = ("classical", "replay")
"""Backends without a model to ask."""
NO_ANSWER = (NO_REPLY | {"raised", "bad_return"}) - {"refused", "not_recorded"}
"""Failures that are the judge's, and not the item's."""
UNHEARD = ("unreachable", "timeout", "rate_limited")
"""Failures of an endpoint whose list of models would not come either."""
MOST_ALTERNATIVES = 5
"""Alternatives that are shown at a verdict's place."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request and its vote. `alternatives` are texts with probabilities at the verdict's place.

    `messages` are empty for a judge that reads no prompt. A request about several criteria is one question
    for each `criterion`; the cost is the first one's.
    """

    vote: Vote
    messages: tuple[Message, ...] = ()
    alternatives: tuple[tuple[str, float], ...] = ()
    criterion: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One judge and its answers; `error` and `hint` say why there is none.

    `schema` is whether the endpoint holds replies to a JSON schema, None where none is asked for. `served`
    are the models that answered, as the endpoint names them, and `address` where that is one of several.
    """

    judge: str
    backend: str
    mode: str | None = None
    channel: str | None = None
    schema: bool | None = None
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str = ""
    hint: str = ""
    served: tuple[str, ...] = ()
    address: str = ""

    @property
    def title(self) -> str:
        """The judge, with the address that was asked where it has several."""
        return f"{self.judge} at {self.address}" if self.address else self.judge

    @property
    def usd(self) -> float:
        """The cost of all answers."""
        return math.fsum(question.vote.cost for question in self.questions)

    @property
    def problem(self) -> str:
        """Why the judge gave no answer, or none that it could give to any item."""
        failed = next((q.vote for q in self.questions if q.vote.failure in NO_ANSWER), None)
        if self.error or failed is None:
            return self.error
        return ": ".join(filter(None, (FAILURES[failed.failure or ""], failed.raw.strip())))


@dataclass(frozen=True, slots=True)
class Trials:
    """What each judge answers about one item."""

    item: str
    trials: tuple[Trial, ...]

    @property
    def failed(self) -> bool:
        """Whether a judge gave no answer."""
        return any(trial.problem for trial in self.trials)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        rows = [asdict(trial) | {"usd": trial.usd, "problem": trial.problem} for trial in self.trials]
        return {"item": self.item, "judges": rows}

    def lines(self) -> list[str]:
        """For a terminal. Texts of others stand behind a bar, so that none looks like a line of this tool."""
        return [f"item {one_line(self.item)}", *(line for trial in self.trials for line in _shown(trial))]

    def table(self) -> list[str]:
        """One line a judge, for `check --ping`."""
        rows = [
            (
                trial.title,
                "no answer" if trial.problem else _failure(trial) or "ok",
                "—" if trial.problem or trial.mode is None else _yes(trial.channel == "logprobs"),
                "—" if trial.problem or trial.schema is None else _yes(trial.schema),
                f"{trial.seconds:.1f}",
                f"{trial.usd:.6f}",
            )
            for trial in self.trials
        ]
        head = ("judge", "answer", "log-probabilities", "schema", "s", "USD")
        more = [line for trial in self.trials for line in _remarks(trial)]
        return [*table_lines(head, rows, "<<<<>>"), *more]


async def try_judges(
    config: Config, hooks: Hooks, *, item: str | None = None, judge: str | None = None
) -> Trials:
    """Ask each judge, or the one of this name, about an item with its first prompt, in each order.

    Without an `item`, an unlabelled one is taken, if any. Answers come from the cache where they are there. A
    judge that is fitted on the last one's verdicts is asked only by name: its fit calls the last judge.
    Raises UsageError for an unknown item or judge.
    """
    data = load_dataset(config)
    names = [table.name for table in config.judges]
    if judge is not None and judge not in names:
        raise UsageError(f"there is no judge {judge!r}", f"the judges are {', '.join(names)}")
    free = [table.name for table in config.judges if getattr(table, "fit_on", None) != "last_judge"]
    chosen = [judge] if judge is not None else free
    return await _ask(config, hooks, data, _item(config, data, item), chosen, ping=False)


async def ping(config: Config, hooks: Hooks) -> Trials:
    """Ask each judge that has a model one question, once at each of its addresses and past the cache.

    An address that serves another model than the first one has no answer.
    """
    data = load_dataset(config)
    return await _ask(config, hooks, data, _item(config, data, None), pinged(config), ping=True)


def pinged(config: Config) -> list[str]:
    """The judges that `ping` asks."""
    return [table.name for table in config.judges if table.backend not in NO_MODEL]


def _item(config: Config, data: Dataset, wanted: str | None) -> Item:
    if wanted is not None:
        for item in data.items:
            if wanted in (item.id, row_name(item).item_id):
                return item
        raise UsageError(f"there is no item {wanted!r}", f"the first item is {data.items[0].id!r}")
    shown = set(select_rows(config, data).roles["exemplars"])
    order = (*data.unlabelled, *(item for item in data.items if item.id not in shown), *data.items)
    return order[0]


def _rows(data: Dataset, item: Item) -> list[Item]:
    """The rows of an item: one, or one for each criterion."""
    own = row_name(item)
    return [row for row in data.items if row_name(row).item_id == own.item_id] if own.criterion else [item]


async def _ask(
    config: Config, hooks: Hooks, data: Dataset, item: Item, names: Sequence[str], *, ping: bool
) -> Trials:
    roles = select_rows(config, data).roles
    try:
        exemplars = exemplars_of(config, data, roles["exemplars"])
    except DataError:
        if not ping:
            raise
        exemplars = ((),) * config.ensemble.members
    hooks.before_asking()  # what it raises is no failure of a judge: no host is to be asked
    rows = NO_ROWS if ping else fitting_rows(config, data, roles)
    asked = _rows(data, item)
    trials: list[Trial] = []
    for name in names:
        own = _alone(config, name, ping=ping)
        each = [await _try(at, hooks, name, exemplars, rows, asked, ping=ping) for at in _at_each(own, ping)]
        trials += await _compared(own, each) if len(each) > 1 else each
    return Trials(row_name(item).item_id, tuple(trials))


async def _try(
    config: Config,
    hooks: Hooks,
    name: str,
    exemplars: Sequence[Sequence[Exemplar]],
    rows: FittingRows,
    asked: Sequence[Item],
    *,
    ping: bool,
) -> Trial:
    """Ask one judge, alone in its configuration, about the rows of an item."""
    notes: list[str] = []
    (table,) = (table for table in config.judges if table.name == name)
    trial = Trial(name, table.backend, getattr(table, "mode", None))
    asking = Asking(BudgetTable() if ping else None, use_cache=not ping)
    try:
        async with open_panel(
            config, replace(hooks, notice=notes.append), exemplars, asking, rows=rows
        ) as panel:
            backend = panel.backends.get(name)
            trial = await _questions(config, panel, asked, trial, ping=ping)
        if isinstance(backend, OpenAIBackend) and trial.mode == "structured":
            trial = replace(trial, schema=backend.dialect.form)
    except TrustEscalateError as error:
        trial = replace(trial, error=error.message, hint=error.hint)
    if trial.problem:
        failure = next((q.vote.failure for q in trial.questions if q.vote.failure), None)
        advice = ""
        if isinstance(table, EndpointTable) and failure not in UNHEARD:
            advice = await advise(table)
        trial = replace(trial, hint=advice or trial.hint or OUTAGES.get(failure or "", ""))
    elif ping and isinstance(table, EndpointTable) and (note := await unlisted(table, trial.served)):
        notes.append(note)
    return replace(trial, notes=tuple(notes))


def _at_each(config: Config, ping: bool) -> list[Config]:
    """The configuration of a judge; to ping one with several addresses, with each of them alone."""
    table = config.judges[0]
    if not (ping and isinstance(table, EndpointTable) and len(table.addresses) > 1):
        return [config]
    tables = [table.model_copy(update={"base_url": url}) for url in table.addresses]
    return [config.model_copy(update={"judges": [each, *config.judges[1:]]}) for each in tables]


async def _compared(config: Config, trials: Sequence[Trial]) -> list[Trial]:
    """The trials of one judge at its addresses; where another model answers than at the first, an error."""
    table = config.judges[0]
    assert isinstance(table, EndpointTable), "it has several addresses"
    named = [replace(trial, address=address) for trial, address in zip(trials, table.addresses, strict=True)]
    first = next((trial for trial in named if trial.served), None)
    for place, trial in enumerate(named):
        if first is None or not trial.served or trial.served[0].split()[0] == first.served[0].split()[0]:
            continue
        error = f"answers as {trial.served[0]!r}, and {first.address} as {first.served[0]!r}"
        named[place] = replace(trial, error=error, hint=ONE_MODEL)
    try:
        await must_offer_one_model(table)
    except TrustEscalateError as error:
        named[-1] = replace(
            named[-1], error=named[-1].error or error.message, hint=named[-1].hint or error.hint
        )
    return named


def _alone(config: Config, name: str, *, ping: bool) -> Config:
    """The configuration with one judge, so that no other can fail, and the last one if it learns from it."""
    (table,) = (table for table in config.judges if table.name == name)
    if ping and "attempts" in type(table).model_fields:
        table = table.model_copy(update={"attempts": 1})
    learns = getattr(table, "fit_on", None) == "last_judge"
    return config.model_copy(update={"judges": [table, *config.judges[-1:]] if learns else [table]})


async def _questions(
    config: Config, panel: Panel, rows: Sequence[Item], trial: Trial, *, ping: bool
) -> Trial:
    began = time.monotonic()
    judge = panel.opened[trial.judge]
    if isinstance(judge, EnsembleJudge):
        wanted = orders(config.task.task(), swap=config.ensemble.swap)[: 1 if ping else 2]
        answers = [await judge.ask_once(rows, order) for order in wanted]
        questions = [question for answer in answers for question in _of_answer(rows, answer)]
        served = names_of(asked.reply for answer in answers for asked in answer)
    else:
        (judge,) = (fitted for fitted in panel.judges if fitted.name == trial.judge)
        opened = panel.opened[trial.judge]
        rows = rows[:1] if ping else rows  # past the cache each row would be a call
        judgments = [await judge.judge(row, lambda votes, _: bool(votes)) for row in rows]
        questions = [
            question
            for row, judgment in zip(rows, count_once(config, judgments), strict=True)
            for question in _of_judgment(
                row, judgment, opened.shown(row) if isinstance(opened, DecisionJudge) else ()
            )
        ]
        served = judgments[0].served
    seconds = time.monotonic() - began
    return replace(trial, channel=judge.channel, questions=tuple(questions), seconds=seconds, served=served)


def _of_answer(rows: Sequence[Item], answers: Sequence[Asked]) -> Iterator[Question]:
    """The question of one request, or one for each criterion, the first with all that belongs to them all."""
    for place, (row, asked) in enumerate(zip(rows, answers, strict=True)):
        vote, criterion = replace(asked.vote, tokens=()), row_name(row).criterion
        if place:
            yield Question(replace(vote, usage=Usage(), cost=0.0), criterion=criterion)
        else:
            yield Question(vote, asked.request.messages, _alternatives(asked), criterion)


def _of_judgment(row: Item, judgment: Judgment, shown: Sequence[tuple[Message, ...]]) -> Iterator[Question]:
    for vote, messages in zip(judgment.votes, shown or [()] * len(judgment.votes), strict=True):
        yield Question(replace(vote, tokens=()), messages, criterion=row_name(row).criterion)


def _alternatives(asked: Asked) -> tuple[tuple[str, float], ...]:
    tokens = None if asked.request.criteria else asked.reply.tokens  # of several verdicts: each has its own
    places = condensed(tokens or (), asked.request.symbols)
    listed = next((token.top for token in reversed(places) if token.top), ())
    best = sorted(
        ((text, math.exp(logprob)) for text, logprob in listed if not math.isnan(logprob)),
        key=lambda pair: -pair[1],
    )
    return tuple(best[:MOST_ALTERNATIVES])


# ── for a terminal ─────────────────────────────────────────────────────────────────────────────────


def _shown(trial: Trial) -> Iterator[str]:
    how = [trial.backend, *([f"mode {trial.mode}"] if trial.mode else [])]
    how += [trial.channel] if trial.channel and trial.questions else []
    yield ""
    yield f"judge {one_line(trial.title)} ({', '.join(how)}): {trial.seconds:.1f} s, {trial.usd:.6f} USD"
    if trial.served:
        yield f"  answered by {one_line(', '.join(trial.served))}"
    before: tuple[Message, ...] = ()
    replied = None  # the order and the text of the reply that was shown last
    for question in trial.questions:
        vote = question.vote
        if question.criterion and not question.messages and replied == (vote.order, vote.raw):
            yield f"    read as: {_reading(question)}"
            continue
        replied = vote.order, vote.raw
        if vote.order:
            yield f"  order {vote.order}{' (the responses change places)' if vote.order == 'BA' else ''}:"
        *prefix, last = question.messages or (None,)
        if before and tuple(prefix) == before:
            yield "    (earlier messages as above)"
        for message in (*([] if tuple(prefix) == before else prefix), *([last] if last else [])):
            yield f"    {message.role}:"
            yield from _quoted(message.content)
        before = tuple(prefix)
        yield "    reply:"
        yield from _quoted(vote.raw)
        if question.alternatives:
            listed = (f"{text!r} {share:.3g}" for text, share in question.alternatives)
            yield f"    tokens at its place: {', '.join(listed)}"
        yield f"    read as: {_reading(question)}"
    yield from _remarks(trial)


def _reading(question: Question) -> str:
    vote, about = question.vote, f"{one_line(question.criterion)}: " if question.criterion else ""
    if vote.failure is not None:
        return f"{about}no verdict: {vote.failure} ({FAILURES[vote.failure]})"
    return about + ", ".join(f"{label} {share:.3f}" for label, share in _sorted(vote.probs))


def _sorted(probs: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(probs.items(), key=lambda pair: -pair[1])


def _quoted(text: str) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        yield f"      | {one_line(line)}"


def _remarks(trial: Trial) -> Iterator[str]:
    if trial.problem:
        yield f"  {one_line(trial.title)}: no answer: {one_line(trial.problem)}"
    elif _failure(trial):
        yield f"  {one_line(trial.title)}: the reply has no verdict: {_failure(trial)}"
    if trial.hint:
        yield f"  hint: {one_line(trial.hint)}"
    for note in trial.notes:
        yield f"  note: {one_line(note)}"


def _failure(trial: Trial) -> str:
    """The first failure; of several criteria, which of them failed."""
    failed = [question for question in trial.questions if question.vote.failure]
    named = (f"{each.vote.failure} on {one_line(each.criterion)}" for each in failed if each.criterion)
    return ", ".join(dict.fromkeys(named)) or next((each.vote.failure or "" for each in failed), "")


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
