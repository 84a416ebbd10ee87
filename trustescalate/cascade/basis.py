"""Digest what a run rests on besides its configuration: judges, and the files that the configuration names.

The gate compares it with the present. Nothing is imported and no model is opened.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from trustescalate.calibration.served_models import must_be_served, pinned_judges
from trustescalate.cascade.batch import certified_items
from trustescalate.cascade.run_folder import used_items
from trustescalate.config import Config, ModelTable, ReplayJudge
from trustescalate.data.dataset import Dataset, load_items
from trustescalate.errors import CertificateMismatch, TrustEscalateError
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.registry import asking, fingerprint
from trustescalate.records import Certificate, Item, Run
from trustescalate.records.bounded import open_file
from trustescalate.records.item_columns import ids_of, places_of
from trustescalate.records.jsonl import digest
from trustescalate.records.stored import pick_items, select_items

ENDS = 1 << 16
"""Bytes at either end of a file in a folder that are read; the middle of weights would take minutes."""
UNREADABLE = "cannot be read"


def basis_of(config: Config, data: Dataset, certificate: Certificate) -> dict[str, str]:
    """Return a digest of each file that the configuration points to, and the fingerprint of each judge.

    Files come first, so that a changed one is named before the judges that it changes.
    """
    parts = dict(_files(config))
    for table in config.judges:
        if isinstance(table, ModelTable):
            parts[f"judge {table.name}"] = partial(_fingerprint, config, table, data, certificate)
    return {name: _digest(part) for name, part in parts.items()}


def _digest(part: Callable[[], str]) -> str:
    try:
        return part()
    except (OSError, TrustEscalateError):
        return UNREADABLE


def _fingerprint(config: Config, table: ModelTable, data: Dataset, certificate: Certificate) -> str:
    return fingerprint(config, table, exemplars_of(config, data, certificate.roles["exemplars"]))


def _files(config: Config) -> Iterator[tuple[str, Callable[[], str]]]:
    if config.task.rubric_file is not None:
        yield config.task.rubric_file, lambda: digest(config.rubric())
    if config.roles.file is not None:
        yield config.roles.file, partial(_file_digest, config.path(config.roles.file))
    for table in config.judges:
        if isinstance(table, ModelTable) and (table.prompt or config.prompts.folder):
            name = table.prompt or f"{config.prompts.folder}/{table.mode}.txt"
            yield name, partial(_wording_digest, config, table)
        if isinstance(table, ReplayJudge):
            yield table.votes, partial(_file_digest, config.path(table.votes))
        module = getattr(table, "function", "").partition(":")[0].replace(".", "/")
        if module and (source := config.path(f"{module}.py")).is_file():
            yield f"{module}.py", partial(_file_digest, source)
        for folder in (getattr(table, "model", None), getattr(table, "adapter", None)):
            if folder and Path(folder).is_dir():
                yield folder, partial(_folder_digest, Path(folder))


def _wording_digest(config: Config, table: ModelTable) -> str:
    """Digest a wording as it is shown: a comment in a prompt file changes nothing."""
    wording = asking(config, table).wording
    return digest(wording.system, wording.user)


def _file_digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _folder_digest(folder: Path) -> str:
    """Digest the names, sizes and both ends of the files of a model, however large they are."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            ends = file.read(ENDS)
            file.seek(max(len(ends), size - ENDS))
            ends += file.read()
        whole.update(
            digest(path.relative_to(folder).as_posix(), size, hashlib.sha256(ends).hexdigest()).encode()
        )
    return whole.hexdigest()


def would_judge(
    config: Config,
    data: Dataset,
    certificate: Certificate,
    path: Path | None,
    made_of: Collection[str] | None = None,
) -> Sequence[Item]:
    """Return the items that `run` judges: those of a file, or all without labels and the holdout.

    An uncertified run judges all items except those that its judges are `made_of`. Raises CertificateMismatch
    where they are not the certified batch.
    """
    if made_of is not None:
        if path is not None:
            return load_items(path, config)
        return select_items(data.items, lambda item_id: item_id not in made_of)
    if certificate.batch is not None:
        given = data.items if path is None else load_items(path, config)
        return certified_items(certificate, certificate.batch, given)
    if path is not None:
        return load_items(path, config)
    holdout = set(certificate.roles["holdout"])
    held_out = (item.id for item in data.labelled if item.id in holdout)
    return pick_items(data.items, chain(ids_of(data.unlabelled), held_out))


def what_changed(config: Config, data: Dataset, run: Run) -> list[str]:
    """State what a run rests on and was changed after it: files, judges and items; the first one first."""
    header = run.header
    now = basis_of(config, data, header.certificate)
    changed = [
        _describe(name, now) for name in {**header.basis, **now} if header.basis.get(name) != now.get(name)
    ]
    try:
        must_be_served(header.certificate, run.judgments, pinned_judges(config.model_dump(mode="json")))
    except CertificateMismatch as error:
        changed.append(error.message)
    items = _items_changed(config, data, run)
    return [*changed, *([items] if items else [])]


def _describe(name: str, now: dict[str, str]) -> str:
    if name.startswith("judge "):
        return f"{name} is not the one of this run: its fingerprint differs"
    if now.get(name, UNREADABLE) == UNREADABLE:
        return f"{name} {UNREADABLE} any more"
    return f"{name} was changed after this run"


def _items_changed(config: Config, data: Dataset, run: Run) -> str:
    """State how the items that `run` would judge now differ from those of a run.

    Items that people labelled since stay: their labels measure the run.
    """
    header = run.header
    path = None if header.items_file is None else config.path(header.items_file)
    source = "[data]" if path is None else header.items_file
    try:
        made_of = None if header.uncertified is None else used_items(header)
        wanted = would_judge(config, data, header.certificate, path, made_of)
    except TrustEscalateError as error:
        return f"the items of {source} cannot be compared with those of this run: {error.message}"
    given, judged = data.items if path is None else wanted, places_of(run.items)
    there = places_of(given)
    gone = [item.id for item in run.items if item.id not in there or given[there[item.id]] != item]
    added = [item_id for item_id in ids_of(wanted) if item_id not in judged]
    if not gone and not added:
        return ""
    parts = [f"{len(gone):,} changed or gone ({gone[0]!r} first)"] if gone else []
    parts += [f"{len(added):,} added ({added[0]!r} first)"] if added else []
    return f"the items of {source} are not those of this run: {', '.join(parts)}"
