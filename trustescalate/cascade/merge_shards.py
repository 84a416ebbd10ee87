"""Make one run of its shards: the run that one process would have made of all items."""

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from trustescalate.calibration.ledger import undated
from trustescalate.cascade.run import begin_attempt
from trustescalate.cascade.run_folder import (
    DECISIONS,
    ITEMS,
    JUDGMENTS,
    RUNS,
    RunFolder,
    find_run,
    run_ids,
    run_path,
    with_labels,
)
from trustescalate.config import Config, changes
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.errors import DataError, TrustEscalateError, UsageError
from trustescalate.records import Run, RunHeader
from trustescalate.records.bounded import open_file
from trustescalate.records.jsonl import encode, write_atomically
from trustescalate.records.progress import Hooks
from trustescalate.records.run import Shard

NAMED = 3
"""The most differences that are named at once."""
CHUNK = 1 << 20


def merge_shards(
    config: Config, hooks: Hooks, runs: Sequence[str], *, command: Sequence[str]
) -> tuple[Run, Dataset]:
    """Write the run of which these are all shards, by id or folder, and return it with the data.

    Each shard is verified as a run is. Shards that were merged before give the run of then; that run may be
    among `runs`. Raises UsageError for shards of different runs, for one that is missing, given twice or
    incomplete, and the errors of a run for one that was changed.
    """
    with begin_attempt(config.folder, hooks, command) as attempt:
        given = [_opened(config.folder, name) for name in runs]
        shards = _in_order([folder for folder in given if folder.header.shard is not None])
        data = load_dataset(config)
        for folder in shards:
            _must_be_complete(folder, folder.load())
        first = shards[0].header
        assert first.shard is not None
        whole = replace(
            first,
            created=hooks.now(),
            command=shlex.join(command),
            status="running",
            rows="",
            items=first.shard.items,
            items_digest=first.shard.items_digest,
            number=attempt.number,
            versions=_versions(shards),
            shard=None,
            merged=tuple(folder.header.id for folder in shards),
        )
        with TemporaryDirectory(prefix=".merge-", dir=config.folder / RUNS) as draft:
            draft_run = RunFolder.create(Path(draft), whole, ())
            write_atomically(draft_run.path / ITEMS, _item_lines(shards))
            for name in (JUDGMENTS, DECISIONS):
                write_atomically(draft_run.path / name, _chunks([folder.path / name for folder in shards]))
            draft_run.finish("complete")
            known = _made_before(config.folder, draft_run.header)
            for folder in given:
                if folder.header.shard is None and (known is None or folder.header.id != known.header.id):
                    raise UsageError(f"run {folder.header.id} is no shard", "name the shards of one run")
            if known is not None:
                attempt.run = known.header.id
                return with_labels(known, data), data
            run = with_labels(draft_run, data)
            os.replace(draft_run.path, run_path(config.folder, draft_run.header.id))
        attempt.run = draft_run.header.id
        return run, data


def _opened(folder: Path, name: str) -> RunFolder:
    """A run of this project by its id, or that of a folder, which may come from another machine."""
    path = Path(name)
    if path.name == "run.json":
        path = path.parent
    if path.is_dir():
        return RunFolder.open(path.resolve())
    if name == "latest":
        raise UsageError("a merge names its shards", "give their ids or their folders")
    return find_run(folder, name)


def _in_order(shards: Sequence[RunFolder]) -> Sequence[RunFolder]:
    """The shards by number. Raises UsageError unless they are all shards of one run, and each once."""
    if not shards:
        raise UsageError("no shard is named", "give the ids or folders of all shards of one run")
    ordered = sorted(shards, key=lambda folder: (_part(folder).number, folder.header.id))
    first = ordered[0]
    for folder in ordered[1:]:
        if differences := list(_differences(first.header, folder.header)):
            more = f" and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
            what = "; ".join(differences[:NAMED])
            message = f"{_named(first)} and {_named(folder)} are of different runs: {what}{more}"
            raise UsageError(message, "judge the shards of a run with the same files and configuration")
    numbers = [_part(folder).number for folder in ordered]
    of = _part(first).of
    for before, folder in pairwise(ordered):
        if _part(before).number == _part(folder).number:
            message = f"shard {_part(folder).number} of {of} is given twice: {before.path} and {folder.path}"
            raise UsageError(message, "name one run of each shard")
    if missing := sorted({*range(1, of + 1)} - {*numbers}):
        which = ", ".join(map(str, missing[:NAMED])) + (" …" if len(missing) > NAMED else "")
        message = f"{len(missing)} of {of} shards missing: {which}"
        raise UsageError(message, f"judge it: `trustescalate run --shard {missing[0]}/{of}`")
    return ordered


def _differences(one: RunHeader, other: RunHeader) -> Iterator[str]:
    """In what two shards differ that are not of one run."""
    mark = undated if one.uncertified is not None else lambda certificate: certificate.digest
    marks = [mark(header.certificate)[:12] for header in (one, other)]
    if marks[0] != marks[1]:
        yield f"certificate: {' → '.join(marks)}"
    yield from changes(one.config, other.config)
    for name in dict.fromkeys((*one.basis, *other.basis)):
        if one.basis.get(name) != other.basis.get(name):
            yield f"{name} differs"
    if one.uncertified != other.uncertified:
        yield "the thresholds of --uncertified differ"
    mine, others = (header.versions.get("trustescalate", "") for header in (one, other))
    if mine != others:
        yield f"version of trustescalate: {mine} → {others}"
    assert one.shard is not None
    assert other.shard is not None
    if (one.shard.items, one.shard.items_digest) != (other.shard.items, other.shard.items_digest):
        yield f"the items: {one.shard.items:,} → {other.shard.items:,}, or others"
    if one.shard.of != other.shard.of:
        yield f"number of shards: {one.shard.of} → {other.shard.of}"


def _must_be_complete(folder: RunFolder, run: Run) -> None:
    if run.header.status != "complete" or len(run.decisions) < len(run.items):
        message = f"{_named(folder)} is not complete: {len(run.decisions):,} of {len(run.items):,} decided"
        part = _part(folder)
        again = f"`trustescalate run --shard {part.number}/{part.of} --resume {folder.header.id}`"
        raise UsageError(message, f"resume it where it was made: {again}")


def _item_lines(shards: Sequence[RunFolder]) -> Iterator[bytes]:
    """The lines of all items in their order. Raises DataError where the ranges of shards do not fit."""
    files = [open_file(folder.path / ITEMS) for folder in shards]
    try:
        ranges = sorted(
            (*part, number) for number, folder in enumerate(shards) for part in _part(folder).places
        )
        place = 0
        for start, end, number in ranges:
            if start != place or end <= start:
                raise DataError([f"{_named(shards[number])}: its items are not those of the shard"])
            for place in range(start + 1, end + 1):  # noqa: B007 - ends as the next place
                yield files[number].readline()
        if place != _part(shards[0]).items:
            raise DataError([f"{_named(shards[-1])}: its items are not those of the shard"])
    finally:
        for file in files:
            file.close()


def _chunks(paths: Sequence[Path]) -> Iterator[bytes]:
    """The contents of files, one after the other."""
    for path in paths:
        if path.exists():
            with open_file(path) as file:
                while chunk := file.read(CHUNK):
                    yield chunk


def _versions(shards: Sequence[RunFolder]) -> dict[str, str]:
    """The versions of all shards; several of one package are named together."""
    names = dict.fromkeys(name for folder in shards for name in folder.header.versions)
    given = {
        name: dict.fromkeys(
            folder.header.versions[name] for folder in shards if name in folder.header.versions
        )
        for name in names
    }
    return {name: ", ".join(versions) for name, versions in given.items()}


def _made_before(folder: Path, header: RunHeader) -> RunFolder | None:
    """The run that was merged of the same shards before."""
    for name in reversed(run_ids(folder)):
        try:
            known = RunFolder.open(run_path(folder, name))
        except TrustEscalateError:
            continue
        alike = replace(known.header, id=header.id, created=header.created, command=header.command)
        if encode(replace(alike, number=header.number)) == encode(header):
            return known
    return None


def _part(folder: RunFolder) -> Shard:
    assert folder.header.shard is not None
    return folder.header.shard


def _named(folder: RunFolder) -> str:
    return f"{folder.header.shard} ({folder.path})"
