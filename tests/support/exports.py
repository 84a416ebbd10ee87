"""Write a run in the formats of other tools."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from trustescalate.records import Annotation, Run, Task, TaskKind
from trustescalate.report.export.base import Export, export_rows
from trustescalate.report.export.registry import TARGETS


def relabelled(done: Run, **changes: Any) -> Run:
    """Add human labels to every item of a run, and apply other changes."""
    notes = tuple(
        Annotation(item.id, who, label)
        for place, item in enumerate(done.items)
        for who, label in (("ann", "AB"[place % 2]), ("=bob,; x", ("tie", "skip", "B")[place % 3]))
    )
    return replace(done, annotations=notes, **changes)


def exported(target: str, done: Run, folder: Path, *, blind: bool = False) -> tuple[Path, Export]:
    """Write a run and its additional files."""
    export = Export(done, export_rows(done, blind=blind), blind)
    suffix = {"csv": "csv", "parquet": "parquet", "jsonl": "jsonl", "trl": "jsonl", "mt_bench": "jsonl"}
    path = folder / f"out.{suffix.get(target, 'json')}"
    path.write_bytes(b"".join(TARGETS[target].write(export)))
    for end, content in export.beside.items():
        path.with_name(path.name + end).write_bytes(content)
    return path, export


def single(done: Run, kind: TaskKind, names: tuple[str, ...]) -> Run:
    """The run as one about single answers: A becomes the first label."""
    task = Task(kind, "Is it right?", names)
    renamed = dict(zip(("A", "B", "tie"), (*names, names[0]), strict=False))
    decisions = tuple(replace(each, label=renamed.get(str(each.label)), trail=()) for each in done.decisions)
    items = tuple(replace(item, responses=item.responses[:1]) for item in done.items)
    header = replace(done.header, certificate=replace(done.header.certificate, task=task))
    return replace(done, header=header, items=items, decisions=decisions, annotations=())
