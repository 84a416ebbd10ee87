"""The fields of an annotation tool's records that a user named in [import], and the labels in [task]."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from trustescalate.data.importers.base import Files, Notes, Reader, Taken
from trustescalate.data.importers.codes import FAIL, PAIR_SPELLINGS, PASS
from trustescalate.data.importers.columns import PAIRS, ColumnsFile
from trustescalate.data.importers.verdicts import pairwise
from trustescalate.errors import DataError
from trustescalate.records import Label, Task, TaskKind

SIDES = (
    ("left", "right"),
    *PAIRS,
    *((f"{stem}{gap}1", f"{stem}{gap}2") for stem in ("summary", "text") for gap in ("_", "")),
)
"""Fields of the two responses; the first of a pair is shown on the left."""
QUESTIONS = ("preference", "comparison", "winner", "tie", "verdict", "label", "choice", "overall")
"""Names of the control, or the question, with the label; other choices are criteria."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names of fields, and of the control or question with the label; empty where the usual ones hold.

    `spelled` maps spellings in lower case to labels.
    """

    task: Task = field(default_factory=pairwise)
    id: str | None = None
    prompt: str | None = None
    responses: tuple[str, ...] = ()
    reference: str | None = None
    group: str | None = None
    label: str | None = None
    spelled: Mapping[str, Label] = field(default_factory=dict)

    @property
    def is_pairwise(self) -> bool:
        """Whether two responses are compared."""
        return self.task.kind is TaskKind.PAIRWISE

    @property
    def given(self) -> tuple[str, ...]:
        """The fields that the user named."""
        named = (self.id, self.prompt, *self.responses, self.reference, self.group)
        return tuple(name for name in named if name)

    @property
    def questions(self) -> frozenset[str]:
        """Names of the control with the label."""
        return frozenset((self.label,) if self.label else QUESTIONS)

    def of(self, task: Task) -> "Names":
        """These names for the records of a task."""
        known: dict[str, Label] = dict(PAIR_SPELLINGS) if task.kind is TaskKind.PAIRWISE else {}
        if task.labels == ("pass", "fail"):
            known = dict.fromkeys(PASS, "pass") | dict.fromkeys(FAIL, "fail")
        known |= {label.casefold(): label for label in task.annotation_labels}
        return replace(self, task=task, spelled={**known, **self.spelled})


def are_fields(given: ColumnsFile) -> bool:
    """Whether a file of columns names fields and a control alone, not columns of rows or paths into them."""
    table = given.columns
    names = [table.id, table.prompt, table.label, table.reference, table.group, *(table.responses or ())]
    others = table.model_fields_set - {"id", "prompt", "responses", "reference", "group", "label", "labels"}
    return not others and not any("." in name for name in names if name)


def names_of(given: ColumnsFile, where: str) -> Names:
    """The names in a file of columns. Raises DataError where they do not fit the task."""
    table = given.columns
    task = given.task.task() if given.task is not None else None
    if task is None:
        if len(table.responses or ()) != 2:
            hint = 'add [task] kind = "choice" and its labels, or kind = "binary"'
            raise DataError([f"{where}: the labels of one response have no known meaning"], hint)
        task = pairwise()
    if table.responses is not None and task.responses != len(table.responses):
        why = f"a {task.kind} task has {task.responses} responses, and {len(table.responses)} are named"
        raise DataError([f"{where}: {why}"], "name the responses in [import]")
    for label in table.labels.values():
        if label not in task.annotation_labels:
            why = f"[import] labels: {label!r} is not one of {', '.join(task.annotation_labels)}"
            raise DataError([f"{where}: {why}"], "fix it")
    spelled = {spelling.strip().casefold(): label for spelling, label in table.labels.items()}
    names = Names(
        task,
        table.id,
        table.prompt,
        table.responses or (),
        table.reference,
        table.group,
        table.label,
        spelled,
    )
    return names.of(task)


def named_reader(
    read: Callable[[Files, Notes, Names | None], Iterator[Taken]], *parts: str
) -> Callable[[ColumnsFile], Reader]:
    """A maker of readers with the names in a file of columns; `parts` are those of the format."""

    def named(given: ColumnsFile) -> Reader:
        def reader(files: Files, notes: Notes) -> Iterator[Taken]:
            where = str(next(file for part in parts for file in files[part]).path)
            return read(files, notes, names_of(given, where))

        return reader

    return named
