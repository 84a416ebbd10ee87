"""Foreign files in, a calibration set out: items, annotations, votes, a configuration to run, a card.

Everything that was taken, refused and assumed is said. Judges' recorded verdicts become votes, so that a
cascade can be calibrated without asking anybody.
"""

import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trustescalate.config import parse_config
from trustescalate.config.criteria import with_groups
from trustescalate.config.starter import STARTER, must_be_free
from trustescalate.data.imported_set import BATCH, ImportedSet, JudgeCount
from trustescalate.data.importers.base import Files, Format, Found, Notes, Plain, Taken
from trustescalate.data.importers.columns import ColumnsFile
from trustescalate.data.importers.files import Foreign, Rejected, open_foreign
from trustescalate.data.importers.hugging_face import is_dataset, open_dataset
from trustescalate.data.importers.registry import named_format, recognise
from trustescalate.data.importers.trec import refuse_trec
from trustescalate.data.labels import without_labels
from trustescalate.data.rubrics import criterion_tables
from trustescalate.errors import ConfigError, DataError
from trustescalate.records import Task, TaskKind
from trustescalate.records.bounded import memory_of, read_text
from trustescalate.records.progress import Progress

MOST_NAMED = 5
SHOWN_COLUMNS = 40
BATCH_MEMORY = 16_000_000


@dataclass(frozen=True, slots=True)
class Imported:
    """Counts and assumptions of an import. `rejected` holds the first refused records of `refused`."""

    folder: str
    format: str
    items: int
    annotations: int
    repeated: int
    refused: int
    rejected: tuple[str, ...]
    assumed: tuple[str, ...]
    labels: dict[str, int]
    judges: dict[str, JudgeCount]
    left_out: tuple[str, ...] = ()

    @property
    def next_step(self) -> str | None:
        """What the set lacks before it can be calibrated, with the command that gets it."""
        return None if self.annotations else without_labels(Path(self.folder))

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        judges = {name: count._asdict() for name, count in self.judges.items()}
        return {**asdict(self), "judges": judges, "next": self.next_step}

    def lines(self) -> list[str]:
        """For a terminal."""
        counts = ", ".join(f"{label} {count:,}" for label, count in self.labels.items())
        lines = [
            f"format:      {self.format}",
            f"items:       {self.items:,}" + (f" ({self.repeated:,} came again)" if self.repeated else ""),
            f"annotations: {self.annotations:,}" + (f" ({counts})" if counts else ""),
        ]
        for name, count in self.judges.items():
            failed = f", {count.failures:,} failed" if count.failures else ""
            lines.append(f"judge:       {name}: {count.judgments:,} items, {count.votes:,} votes{failed}")
        lines += [f"assumed:     {sentence}" for sentence in self.assumed]
        if self.left_out:
            more = len(self.left_out) - SHOWN_COLUMNS
            shown = ", ".join(repr(name[:40]) for name in self.left_out[:SHOWN_COLUMNS])
            lines.append(f"left out:    {shown}" + (f" and {more:,} more" if more > 0 else ""))
        if self.refused:
            lines.append(f"refused:     {self.refused:,}; all of them are in {self.folder}/rejected.jsonl")
            lines += [f"  {problem}" for problem in self.rejected]
        return lines


def import_files(
    paths: Sequence[Path],
    folder: Path,
    *,
    format_name: str | None = None,
    columns: Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Imported:
    """Read files of one format and write a calibration set in `folder`, which must be new or empty.

    A path `hf:NAME` is a dataset of the Hugging Face hub, or a local one (`importers.hugging_face`).
    Memory does not grow with JSON lines, CSV and Parquet. Raises DataError where nothing can be taken; then
    nothing is written.
    """
    must_be_free(folder, "import FILES --to FOLDER")
    for path in paths:
        if not is_dataset(path):
            refuse_trec(path)
    files = [open_dataset(path) if is_dataset(path) else open_foreign(path) for path in paths]
    parts: Files
    if columns is not None:
        source, parts = named_format(files, _columns(columns))
    else:
        source, parts = recognise(files, format_name)
    notes = Notes()
    with ImportedSet(folder) as imported:
        _fill(
            imported, _fitting(source.read(parts, notes), notes), sum(file.about for file in files), progress
        )
        if imported.items == 0 or notes.task is None:
            problems = [str(problem) for problem in imported.rejected] or [
                f"{path}: holds nothing" for path in paths
            ]
            raise DataError(problems, f"nothing could be taken as {source.name}; is it the right format?")
        if (unpriced := _unpriced(imported.judges)) is not None:
            notes.assume(unpriced)
        imported.write("trustescalate.toml", _config(notes, notes.task, imported).encode())
        imported.write("CARD.md", _card(source, files, notes, imported).encode())
        imported.finish()
    return Imported(
        str(folder),
        source.name,
        imported.items,
        imported.annotations,
        imported.repeated,
        imported.refused,
        tuple(map(str, imported.rejected)),
        tuple(notes.assumed),
        {label: imported.labels[label] for label in notes.task.annotation_labels if imported.labels[label]},
        imported.judges,
        tuple(notes.left_out),
    )


def _columns(path: Path) -> ColumnsFile:
    """Read [task] and [import] from a file of columns, or from a whole configuration."""
    try:
        given = tomllib.loads(read_text(path))
        if "version" in given:
            parse_config(given, path)
            given = {key: given[key] for key in ("task", "criteria", "import") if key in given}
        given = {key: each for key, each in with_groups(given).items() if key != "groups"}
        return ColumnsFile.model_validate_json(json.dumps(given, default=str))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise ConfigError("\n  ".join([f"{path}:", *lines])) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _fill(
    imported: ImportedSet, records: Iterator[Taken], about: int, progress: Callable[[Progress], None]
) -> None:
    done = 0
    while batch := list(_batch(records)):
        imported.add(batch)
        done += len(batch)
        progress(Progress("importing", done, max(done + 1, about)))
    progress(Progress("importing", done, done))


def _fitting(records: Iterator[Taken], notes: Notes) -> Iterator[Taken]:
    """The records that fit the task, so that the set can be read again; others are rejected."""
    task = None
    for taken in records:
        task = task or notes.task
        if task != notes.task:
            raise DataError(["the files have different tasks"], "import one kind at once")
        if isinstance(taken, Rejected) or task is None:
            yield taken
        elif problem := _misfit(taken, task):
            name = taken.item["id"] if isinstance(taken, Plain) else taken.item.id
            yield Rejected(str(name), "item", problem)
        else:
            yield taken._replace(judgments=tuple([each for each in taken.judgments if each.votes]))


def _misfit(taken: Plain | Found, task: Task) -> str | None:
    if isinstance(taken, Plain):
        responses, labels = taken.item["responses"], {label for _, label in taken.notes}
        labels |= {label for _, _, label in taken.on_criteria}
        prompt = taken.item["prompt"]
        asked = prompt if isinstance(prompt, str) else "".join(turn["content"] for turn in prompt)
    else:
        responses, labels = taken.item.responses, {note.label for note in taken.annotations}
        asked = taken.item.prompt_text
    if not asked.strip():
        return "the prompt is empty"
    if len(responses) != task.responses:
        return f"it has {len(responses)} responses, a {task.kind} task needs {task.responses}"
    unknown = labels - {*task.annotation_labels}
    for judgment in taken.judgments:
        unknown |= {label for vote in judgment.votes for label in vote.probs} - {*task.labels}
    return f"the label {min(unknown)[:40]!r} is not one of {', '.join(task.labels)}" if unknown else None


def _batch(records: Iterator[Taken]) -> Iterator[Taken]:
    """The next records, fewer of them if they are large."""
    memory = 0
    for taken in islice(records, BATCH):
        yield taken
        if isinstance(taken, Plain):
            memory += memory_of(taken.item)
        elif isinstance(taken, Found):
            memory += sum(map(len, (taken.item.prompt_text, *taken.item.texts)))
        if memory > BATCH_MEMORY:
            return


# ── configuration and data card ────────────────────────────────────────────────────────────────────


def _config(notes: Notes, task: Task, imported: ImportedSet) -> str:
    """A configuration: ready to run with recorded judges, else to be edited."""
    lines = ["version = 1", "", "[task]", f"kind = {_toml(str(task.kind))}"]
    lines.append(f"question = {_toml(task.question)}")
    if task.kind is TaskKind.PAIRWISE:
        lines.append(f"ties = {_toml(task.ties)}")
    elif task.kind is TaskKind.RATING:
        lines.append(f"scale = [{task.labels[0]}, {task.labels[-1]}]")
    else:
        lines.append(f"labels = [{', '.join(map(_toml, task.labels))}]")
    lines += criterion_tables(notes.criteria)
    if not imported.judges:
        return "\n".join([*lines, "", STARTER[STARTER.index("[guarantee]") :]])
    lines += ["", "[ensemble]                     # the recorded votes, as they are"]
    lines += [
        "annotators = 1",
        "shots = 0",
        "",
        "# Cheapest first: put them in order, and give each its price, if these are not right.",
    ]
    names = set[str]()
    for name, count in _cheapest_first(imported.judges):
        shown = "".join(char for char in name if char.isprintable())[:80].strip() or "judge"
        while shown in names:
            shown += "-2"
        names.add(shown)
        lines += ["[[judges]]", f"name = {_toml(shown)}", 'backend = "replay"']
        lines += [f"votes = {_toml(f'votes/{count.file}')}"]
        lines += ([] if shown == name else [f"of = {_toml(name)}"]) + [""]
    return "\n".join(lines)


def _cheapest_first(judges: dict[str, JudgeCount]) -> list[tuple[str, JudgeCount]]:
    return sorted(judges.items(), key=lambda each: (each[1].cost / each[1].judgments, each[1].votes, each[0]))


def _unpriced(judges: dict[str, JudgeCount]) -> str | None:
    """What the order of the tiers rests on, where the file has no prices; None where it has."""
    if len(judges) < 2 or all(count.cost > 0 for count in judges.values()):
        return None
    order = ", ".join(repr(name[:40]) for name, _ in _cheapest_first(judges)[:MOST_NAMED])
    more = ", …" if len(judges) > MOST_NAMED else ""
    return (
        f"the file holds no prices, so the order of the tiers ({order}{more}) is by votes and name: "
        "put the cheapest first in trustescalate.toml"
    )


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _card(source: Format, files: Sequence[Foreign], notes: Notes, imported: ImportedSet) -> str:
    """The data card. Names of files are data: shown as code."""
    lines = ["# A calibration set", "", f"Imported from {source.about}.", "", "| file | |", "|---|---|"]
    for file in files:
        rows = file.origin or {"source": file.path.name}
        lines += [f"| {name} | {_code(text)} |" for name, text in rows.items()]
    lines += [
        f"| items | {imported.items:,} |",
        f"| annotations | {imported.annotations:,} |",
        f"| refused | {imported.refused:,} |",
        "| licence | not known: write it here before you pass the set on |",
        "| split | none: roles are drawn by `trustescalate calibrate`, by the seed in [roles] |",
        "",
        "Assumptions:",
        "",
        *(f"- {sentence}" for sentence in (notes.assumed or ["nothing"])),
        "",
        "Limits: a certificate from this set holds for items like these, with human labels like these.",
        "",
    ]
    return "\n".join(lines)


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("|", "/").replace("\n", " ") + "`"
