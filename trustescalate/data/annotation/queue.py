"""Write queues of items for human labels, blind to judges, models, and the order of the responses.

A queue holds no judges, models, groups or roles. Rows for a certificate are drawn by a seed alone; rows that
a cascade abstained on are no sample, and never certify.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from trustescalate.config import Config, must_hold_no_link_out
from trustescalate.data.batch import Draw, to_label
from trustescalate.data.clusters import clusters, content_digest, content_of
from trustescalate.data.dataset import Dataset, load_dataset, load_items
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.records import SKIP, STRICT, TIE, Item, Json, Label, Purpose, Run, Task, TaskKind, Turn
from trustescalate.records.bounded import open_file, read_lines
from trustescalate.records.criteria import count_in_words, row_name
from trustescalate.records.item_columns import items_by_id
from trustescalate.records.jsonl import decode, digest, write_rows
from trustescalate.records.progress import Hooks
from trustescalate.records.run import least_confident_first

FOLDER = "labelling"
QUEUE = "queue.jsonl"
QUEUE_SCHEMA = 1
FIRST, SECOND = "first", "second"
"""Answers to a pair: the place in which the better response was shown."""
SHOWN = (FIRST, SECOND, TIE, SKIP)
"""Answers that are no labels of a rating or a choice."""
Text = str | tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class QueueHeader:
    """The first line of a queue. `seed` sets which response of a pair is shown first.

    `rubric` and `criteria` are the instructions of [task], which annotators see as judges do.
    """

    schema: int
    id: str
    purpose: Purpose
    task: Task
    seed: int
    created: str
    run: str = ""
    rubric: str = ""
    criteria: tuple[str, ...] = ()
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One item, its responses in the order in which they are shown. `content` is a hash of the item.

    A `known` row was drawn and has human labels already: it is not shown again. A row about one of several
    criteria has its name, its question and its labels.
    """

    item_id: str
    content: str
    prompt: Text
    responses: tuple[Text, ...]
    reference: str | None = None
    known: bool = False
    criterion: str = ""
    question: str = ""
    labels: tuple[Label, ...] = ()
    context: tuple[str, ...] = ()
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as read from its folder, `rows` in the order in which they are shown."""

    header: QueueHeader
    rows: tuple[QueueRow, ...]
    folder: Path

    @property
    def asked(self) -> tuple[QueueRow, ...]:
        """The rows that annotators see."""
        return tuple(row for row in self.rows if not row.known)

    @property
    def answers(self) -> tuple[str, ...]:
        """All answers to any row."""
        task = self.header.task
        return (FIRST, SECOND, TIE, SKIP) if task.kind is TaskKind.PAIRWISE else task.annotation_labels

    def answers_to(self, row: QueueRow) -> tuple[str, ...]:
        """All answers to this row: of several criteria, those of its own."""
        return tuple(answer for answer in self.answers if not row.labels or answer in (*row.labels, *SHOWN))

    def label(self, item_id: str, answer: str) -> Label:
        """Translate an answer to the item's own frame."""
        if self.header.task.kind is not TaskKind.PAIRWISE or answer in (TIE, SKIP):
            return answer
        return "A" if (answer == FIRST) != swapped(self.header.seed, item_id) else "B"


@dataclass(frozen=True, slots=True)
class Queued:
    """A written queue and its reason. `folder` is empty where there is nothing to label.

    `known` drawn rows have labels already; `labelled` items were left out because they have human labels.
    """

    folder: str
    purpose: Purpose
    why: str
    rows: int
    known: int
    labelled: int

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        lines = [f"to label: {self.rows:,}", f"why:      {self.why}"]
        if self.known:
            lines.append(f"known:    {self.known:,} of the drawn rows have labels, and are not shown again")
        if self.labelled:
            lines.append(f"left out: {self.labelled:,} with human labels")
        return lines + ([f"queue:    {self.folder}"] if self.folder else [])


def swapped(seed: int, item_id: str) -> bool:
    """Whether the second response of a pair is shown first: a fair coin, set by the seed.

    >>> sides = [swapped(0, f"item-{n}") for n in range(1000)]
    >>> 450 < sum(sides) < 550
    True
    """
    return int(digest("side", seed, item_id)[:8], 16) % 2 == 1


# ── what to label ──────────────────────────────────────────────────────────────────────────────────


def queue_run(config: Config, hooks: Hooks, data: Dataset, run: Run, chosen: Collection[str] = ()) -> Queued:
    """Queue the abstained items of a run, except those that were labelled since.

    Those of an uncertified run, which releases nothing, are all its items, the least confident first.
    `chosen` items are queued instead, be they abstained, released or labelled. Raises UsageError where the
    run judged items that are not in [data], or judged no chosen item.
    """
    by_id = items_by_id(data.items)
    judged = items_by_id(run.items)
    if missing := [item_id for item_id in chosen if item_id not in judged]:
        raise UsageError(
            f"run {run.header.id} has no item {missing[0]!r}", "the report of the run lists its items"
        )
    abstained = [row.item_id for row in run.decisions if row.label is None]
    left_open = list(dict.fromkeys(chosen)) or abstained
    unknown = [item_id for item_id in left_open if not _same(judged[item_id], by_id.get(item_id))]
    if unknown:
        raise UsageError(
            f"{len(unknown):,} items of run {run.header.id} are not in [data] items, as {unknown[0]!r}",
            "add them there first: labels come back to [data] annotations, which are about these items",
        )
    if chosen:
        items = [by_id[item_id] for item_id in left_open]
        purpose: Purpose = "abstained" if set(left_open) <= set(abstained) else "other"
        why = (
            f"named from run {run.header.id}. They are no sample: their labels settle them, and never certify"
        )
        return write_queue(config, hooks, purpose, items, frozenset(), why, run=run.header.id)
    wanted = [by_id[item_id] for item_id in left_open if item_id not in data.annotated]
    decided = count_in_words([judged[row.item_id] for row in run.decisions])
    why = (
        f"the cascade abstained on {len(left_open):,} of {decided} in run "
        f"{run.header.id}. They are its hardest items and no sample: their labels settle them, and never "
        "certify"
    )
    if run.uncertified:
        place = {item_id: n for n, item_id in enumerate(least_confident_first(run))}
        wanted.sort(key=lambda item: place[item.id])
        why = (
            f"run {run.header.id} is uncertified and released none of its {len(run.decisions):,} verdicts. "
            "The least confident come first, so stop where you like; they are no sample: their labels "
            "settle them, and never certify"
        )
        if not wanted:
            why = (
                f"every item of the uncertified run {run.header.id} has a human label. Bring fresh items "
                "into [data] items, then run again or queue rows for calibration"
            )
    else:
        wanted.sort(key=lambda item: digest("order", config.roles.seed, item.id))
    known = len(left_open) - len(wanted)
    return write_queue(
        config, hooks, "abstained", wanted, frozenset(), why, run=run.header.id, labelled=known
    )


def queue_sample(
    config: Config,
    hooks: Hooks,
    data: Dataset,
    rows: int | None,
    drawn: Draw | None,
    pilot: Iterable[str] = (),
) -> Queued:
    """Queue rows for the certificate: drawn uniformly at random from all items that are in no sample yet.

    The draw depends on a seed and the items' texts, and on no verdict. Of clustered rows, one is drawn where
    one is tested, or all with [guarantee] largest_cluster. An item that was labelled for another reason can
    be drawn like any other; it is not shown again. With the claim "batch" the rows are those that `calibrate`
    draws, `drawn`. `pilot` rows belong to a region, and are not drawn. Another draw before the answers are
    collected gives the same rows first. Raises UsageError without `rows`, or with it where the draw is the
    batch's.
    """
    seed = config.roles.seed
    if drawn is not None:
        if rows is not None:
            raise UsageError(
                "with a batch, [guarantee] label_budget says how many rows are drawn", "leave out --rows"
            )
        wanted = to_label(drawn, data)
        wanted.sort(key=lambda item: digest("order", seed, item.id))
        why = (
            f"{len(drawn.drawn):,} of {len(data.items):,} items were drawn at random by the seed "
            f"{drawn.seed}, for a certificate on this batch. All of them must be answered, be it with skip"
        )
        return write_queue(
            config, hooks, "sample", wanted, frozenset(), why, labelled=len(drawn.drawn) - len(wanted)
        )
    if rows is None:
        raise UsageError("how many rows are to be drawn?", "give --rows; `trustescalate plan` says how many")
    if config.guarantee.weight is not None:
        raise UsageError(
            "[guarantee] weight is for rows from elsewhere; rows that are drawn here need none",
            "remove weight",
        )
    whole = config.guarantee.largest_cluster is not None
    pool = sample_order(data, seed, whole=whole, without=pilot)
    if not pool:
        raise NotMeasurable(
            "every item, or one of its group, is in the sample already", "bring fresh items into [data] items"
        )
    wanted = list[Item]()
    for drawn_together in pool:
        wanted += drawn_together if len(wanted) < rows else []
    why = (
        f"{len(wanted):,} of {sum(map(len, pool)):,} were drawn uniformly at random by the seed {seed} from "
        f"what is in no sample yet, {'whole groups' if whole else 'one of each group'}, so that they stand "
        "for all. Answer all of them, in this order"
    )
    return write_queue(config, hooks, "sample", wanted, data.annotated, why)


def sample_order(
    data: Dataset, seed: int, *, whole: bool = False, without: Iterable[str] = ()
) -> list[list[Item]]:
    """Return the candidates of a draw in its order: one item of each group, all its rows, or `whole` groups.

    Groups with an item in the sample, or among the ids `without`, are left out. The order is random and does
    not change when some of its items are labelled, so that a labelled head of the queue is a random sample.
    """
    taken = {*(item.id for item in data.labelled), *without}
    drawn = []
    for rows in clusters(data.items):
        if taken.isdisjoint(item.id for item in rows):
            lots = {
                item.id: digest("draw", seed, content_digest(item), row_name(item).item_id) for item in rows
            }
            group = digest("draw", seed, min(map(content_digest, rows)))
            together = sorted(rows, key=lambda item: lots[item.id])
            first = [item for item in together if lots[item.id] == lots[together[0].id]]
            drawn.append((group, together if whole else first))
    return [rows for _, rows in sorted(drawn, key=lambda each: each[0])]


def load_labels(config: Config) -> Dataset:
    """Read [data], where annotations may still be missing. Raises DataError with every problem."""
    notes = config.path(config.data.annotations)
    if notes.exists() and notes.stat().st_size:
        return load_dataset(config)
    return Dataset(load_items(config.path(config.data.items), config), ())


def _same(judged: Item, item: Item | None) -> bool:
    return item is not None and (item.asked, item.responses) == (judged.asked, judged.responses)


# ── the folder ─────────────────────────────────────────────────────────────────────────────────────


def write_queue(
    config: Config,
    hooks: Hooks,
    purpose: Purpose,
    items: Sequence[Item],
    known: frozenset[str],
    why: str,
    *,
    run: str = "",
    labelled: int = 0,
) -> Queued:
    """Write the folder of a queue, unless there is nothing to label. `known` rows are not shown again."""
    seed = config.roles.seed
    tasks = config.criterion_tasks()
    rows = [_row(item, seed, item.id in known, tasks) for item in items]
    asked = sum(not row.known for row in rows)
    if not rows:
        return Queued("", purpose, why, 0, 0, labelled)
    queue_id = hooks.new_id()
    header = QueueHeader(
        schema=QUEUE_SCHEMA,
        id=queue_id,
        purpose=purpose,
        task=config.task.task(),
        seed=seed,
        created=hooks.now(),
        run=run,
        rubric=config.rubric(),
        criteria=config.task.criteria,
    )
    folder = config.folder / FOLDER / queue_id
    write_rows(folder / QUEUE, [header, *rows])
    return Queued(str(folder), purpose, why, asked, len(rows) - asked, labelled)


def _row(item: Item, seed: int, known: bool, tasks: Mapping[str, Task]) -> QueueRow:
    turned = len(item.responses) == 2 and swapped(seed, item.id)
    shown = item.responses[::-1] if turned else item.responses
    row = QueueRow(item.id, content_of(item), item.prompt, shown, item.reference, known, context=item.context)
    if not tasks:
        return row
    name = row_name(item).criterion
    return replace(row, criterion=name, question=tasks[name].question, labels=tasks[name].labels)


def read_queue(folder: Path) -> Queue:
    """Read a queue. Raises UsageError where there is none, DataError where it is damaged."""
    path = folder / QUEUE
    try:
        with open_file(path) as file:
            lines = list(read_lines(file)) or [b""]
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no queue here", "`trustescalate label queue` makes one") from None
    try:
        header = decode(lines[0], QueueHeader)
        rows = tuple(decode(line, QueueRow) for line in lines[1:] if line.strip())
    except ValueError as error:
        raise DataError([f"{path}: {error}"], "queues are not edited; make a new one") from None
    if header.schema != QUEUE_SCHEMA:
        raise UsageError(f"{path}: a queue of schema {header.schema}, this version reads {QUEUE_SCHEMA}")
    return Queue(header, rows, folder)


def queue_folders(config: Config) -> list[Path]:
    """The folders of all queues, oldest first."""
    paths = list((config.folder / FOLDER).glob(f"*/{QUEUE}"))
    for path in paths:
        must_hold_no_link_out(config.folder, path.parent)
    return [
        path.parent
        for path in sorted(paths, key=lambda path: (path.parent.name[:16], path.stat().st_mtime_ns))
    ]


def open_queue(config: Config, name: str | None = None) -> Queue:
    """Read a queue by its id or folder, by default the latest. Raises UsageError without any."""
    folders = queue_folders(config)
    if not folders:
        raise UsageError("nothing is queued", "`trustescalate label queue` says what to label")
    wanted = folders[-1].name if name is None else Path(name).name
    for folder in folders:
        if folder.name == wanted:
            return read_queue(folder)
    raise UsageError(f"there is no queue {name!r}", f"the latest is {folders[-1].name}")
