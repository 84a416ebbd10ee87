"""What people are to label, and why: written so that nobody sees a judge, a model, or which side was first.

A queue says nothing of judges, models, groups and roles. For a certificate, rows are drawn without regard to
anything but a seed; the rows that a cascade abstained on are no sample, and never certify.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from trustescalate.config import Config
from trustescalate.data.batch import Draw, to_label
from trustescalate.data.clusters import clusters, content_digest
from trustescalate.data.dataset import Dataset, load_dataset, load_items
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.records import SKIP, STRICT, TIE, Item, Json, Label, Purpose, Run, Task, TaskKind, Turn
from trustescalate.records.jsonl import decode, digest, write_rows
from trustescalate.records.progress import Hooks

FOLDER = "labelling"
QUEUE = "queue.jsonl"
QUEUE_SCHEMA = 1
FIRST, SECOND = "first", "second"
"""What a person says of two responses: which place the better one was shown in."""
Text = str | tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class QueueHeader:
    """The first line of a queue. `seed` decides which response of a pair is shown first."""

    schema: int
    id: str
    purpose: Purpose
    task: Task
    seed: int
    created: str
    run: str = ""
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One item, its responses in the order in which they are shown. `content` is a hash of the item.

    A `known` row was drawn, and people had labelled it before: it is not asked about again.
    """

    item_id: str
    content: str
    prompt: Text
    responses: tuple[Text, ...]
    reference: str | None = None
    known: bool = False
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as read from its folder, `rows` in the order in which they are asked."""

    header: QueueHeader
    rows: tuple[QueueRow, ...]
    folder: Path

    @property
    def asked(self) -> tuple[QueueRow, ...]:
        """The rows that people see."""
        return tuple(row for row in self.rows if not row.known)

    @property
    def answers(self) -> tuple[str, ...]:
        """Everything that a person may say of a row."""
        task = self.header.task
        return (FIRST, SECOND, TIE, SKIP) if task.kind is TaskKind.PAIRWISE else task.annotation_labels

    def label(self, item_id: str, answer: str) -> Label:
        """What an answer means in the item's own frame."""
        if self.header.task.kind is not TaskKind.PAIRWISE or answer in (TIE, SKIP):
            return answer
        return "A" if (answer == FIRST) != swapped(self.header.seed, item_id) else "B"


@dataclass(frozen=True, slots=True)
class Queued:
    """What was queued, and why. `folder` is empty where there is nothing to label.

    `known` drawn rows have labels already; `labelled` items were left out because people labelled them.
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
        said = [f"to label: {self.rows:,}", f"why:      {self.why}"]
        if self.known:
            said.append(f"known:    {self.known:,} of the drawn rows have labels, and are not asked again")
        if self.labelled:
            said.append(f"left out: {self.labelled:,} that people labelled already")
        return said + ([f"queue:    {self.folder}"] if self.folder else [])


def swapped(seed: int, item_id: str) -> bool:
    """Whether the second response of a pair is shown first: a fair coin that only the seed decides.

    >>> sides = [swapped(0, f"item-{n}") for n in range(1000)]
    >>> 450 < sum(sides) < 550
    True
    """
    return int(digest("side", seed, item_id)[:8], 16) % 2 == 1


# ── what to label ────────────────────────────────────────────────────────────────────────────────


def queue_run(config: Config, hooks: Hooks, run: Run) -> Queued:
    """Queue what a run abstained on, except what people labelled since.

    Raises UsageError where the run judged items that are not in [data].
    """
    data = load_labels(config)
    by_id = {item.id: item for item in data.items}
    judged = {item.id: item for item in run.items}
    left_open = [row.item_id for row in run.decisions if row.label is None]
    unknown = [item_id for item_id in left_open if not _same(judged[item_id], by_id.get(item_id))]
    if unknown:
        raise UsageError(
            f"{len(unknown):,} items of run {run.header.id} are not in [data] items, as {unknown[0]!r}",
            "add them there first: labels come back to [data] annotations, which are about these items",
        )
    wanted = [by_id[item_id] for item_id in left_open if item_id not in data.annotated]
    wanted.sort(key=lambda item: digest("order", config.roles.seed, item.id))
    why = (
        f"the cascade abstained on {len(left_open):,} of {len(run.decisions):,} items in run "
        f"{run.header.id}. They are its hardest items and no sample: their labels settle them, and never "
        "certify"
    )
    known = len(left_open) - len(wanted)
    return write_queue(
        config, hooks, "abstained", wanted, frozenset(), why, run=run.header.id, labelled=known
    )


def queue_sample(
    config: Config, hooks: Hooks, rows: int | None, drawn: Draw | None, pilot: Iterable[str] = ()
) -> Queued:
    """Queue rows for the certificate: drawn uniformly at random from all items that are in no sample yet.

    The draw knows a seed and the items' texts, and nothing of what judges said. Of rows that are clustered,
    one is drawn where one is tested, or all with [guarantee] largest_cluster. An item that people labelled
    for another reason can be drawn like any other; it is not asked again. With the claim "batch" the rows are
    those that `calibrate` draws, `drawn`. `pilot` rows belong to a region, and are not drawn. Drawing again
    before the answers are back gives the same rows first. Raises UsageError without `rows`, or with it where
    the draw is the batch's.
    """
    data, seed = load_labels(config), config.roles.seed
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
    """All that may be drawn, one item of each group, or `whole` groups, in the order in which it is drawn.

    Groups of which an item is in the sample, or among the ids `without`, are out. The order is a random one
    that does not change when some of its items are labelled, so that whoever stops early has labelled a
    random sample too.
    """
    taken = {*(item.id for item in data.labelled), *without}
    drawn = []
    for rows in clusters(data.items):
        if taken.isdisjoint(item.id for item in rows):
            lots = {item.id: digest("draw", seed, content_digest(item), item.id) for item in rows}
            group = digest("draw", seed, min(map(content_digest, rows)))
            together = sorted(rows, key=lambda item: lots[item.id])
            drawn.append((group, together if whole else together[:1]))
    return [rows for _, rows in sorted(drawn, key=lambda each: each[0])]


def load_labels(config: Config) -> Dataset:
    """[data], where annotations may still be missing. Raises DataError with every problem."""
    notes = config.path(config.data.annotations)
    if notes.exists() and notes.stat().st_size:
        return load_dataset(config)
    return Dataset(load_items(config.path(config.data.items), config), ())


def _same(judged: Item, item: Item | None) -> bool:
    return item is not None and (item.prompt, item.responses) == (judged.prompt, judged.responses)


# ── the folder ───────────────────────────────────────────────────────────────────────────────────


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
    """Write the folder of a queue, where there is anything to label. `known` rows are not asked again."""
    seed = config.roles.seed
    rows = [_row(item, seed, item.id in known) for item in items]
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
    )
    folder = config.folder / FOLDER / queue_id
    write_rows(folder / QUEUE, [header, *rows])
    return Queued(str(folder), purpose, why, asked, len(rows) - asked, labelled)


def _row(item: Item, seed: int, known: bool) -> QueueRow:
    turned = len(item.responses) == 2 and swapped(seed, item.id)
    shown = item.responses[::-1] if turned else item.responses
    return QueueRow(item.id, content_of(item), item.prompt, shown, item.reference, known)


def content_of(item: Item) -> str:
    """A hash of what was shown, the order of the responses included."""
    return digest(item.prompt, item.reference, item.responses)


def read_queue(folder: Path) -> Queue:
    """Read a queue. Raises UsageError where there is none, DataError where it is damaged."""
    path = folder / QUEUE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no queue here", "`trustescalate label queue` makes one") from None
    try:
        header = decode(lines[0], QueueHeader)
        rows = tuple(decode(line, QueueRow) for line in lines[1:] if line)
    except ValueError as error:
        raise DataError([f"{path}: {error}"], "queues are not edited; make a new one") from None
    if header.schema != QUEUE_SCHEMA:
        raise UsageError(f"{path}: a queue of schema {header.schema}, this version reads {QUEUE_SCHEMA}")
    return Queue(header, rows, folder)


def queue_folders(config: Config) -> list[Path]:
    """The folders of all queues, oldest first."""
    found: Iterable[Path] = (config.folder / FOLDER).glob(f"*/{QUEUE}")
    return [
        path.parent
        for path in sorted(found, key=lambda path: (path.parent.name[:16], path.stat().st_mtime_ns))
    ]


def open_queue(config: Config, name: str | None = None) -> Queue:
    """A queue by its id, the path of its folder, or by default the latest. Raises UsageError without any."""
    folders = queue_folders(config)
    if not folders:
        raise UsageError("nothing is queued", "`trustescalate label queue` says what to label")
    wanted = folders[-1].name if name is None else Path(name).name
    found = [folder for folder in folders if folder.name == wanted]
    if not found:
        raise UsageError(f"there is no queue {name!r}", f"the latest is {folders[-1].name}")
    return read_queue(found[0])
