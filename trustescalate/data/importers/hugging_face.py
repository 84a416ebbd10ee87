"""Open a dataset of the Hugging Face hub, or a local one, as a table: `hf:NAME[/CONFIG][@REVISION][:SPLIT]`.

A name is pinned to the commit that it stands for before anything is downloaded. Data alone is read: no
loading script is run. A path that begins with ".", "/" or "~" is a local folder, of data files or as
`save_to_disk` writes it.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from trustescalate.data.importers.files import HEAD, Foreign, Record
from trustescalate.data.record_rows import plain_row
from trustescalate.errors import DataError, UsageError

PREFIX = "hf:"
FORM = "the form is hf:NAME[/CONFIG][@REVISION][:SPLIT], such as hf:lmsys/mt_bench_human_judgments:human"
TIMEOUT_S = 20.0
MEDIA = ("Audio", "Image", "Pdf", "Video")
"""Features that are left out: no judge reads them."""
_NAME = re.compile(
    r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:/(?P<config>[^@:/]+))?(?:@(?P<revision>[^:]+))?(?::(?P<split>.+))?"
)
_PATH = re.compile(r"(?P<name>(?:\.{1,2}(?=/|:|$)|/|~)[^:]*)(?::(?P<split>.+))?")


class Named(NamedTuple):
    """The parts of a name; those that are not given are None. A local one is a path."""

    name: str
    config: str | None
    revision: str | None
    split: str | None
    local: bool


def is_dataset(path: Path) -> bool:
    """Whether the argument names a dataset, and no file."""
    return str(path).startswith(PREFIX)


def parse_name(text: str) -> Named:
    """Split a name into its parts. Raises UsageError for a text of another form.

    >>> parse_name("hf:owner/set/config@main:test")
    Named(name='owner/set', config='config', revision='main', split='test', local=False)
    >>> parse_name("hf:./folder:train")
    Named(name='./folder', config=None, revision=None, split='train', local=True)
    """
    rest = text.removeprefix(PREFIX)
    if path := _PATH.fullmatch(rest):
        return Named(path["name"], None, None, path["split"], True)
    if given := _NAME.fullmatch(rest):
        return Named(given["name"], given["config"], given["revision"], given["split"], False)
    raise UsageError(f"{text[:100]!r} names no dataset", FORM)


def open_dataset(path: Path) -> Foreign:
    """Open one split. Raises DataError where it cannot be had, or must be named more exactly."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{path} needs the package datasets", "pip install 'trustescalate[hf]'") from None
    text, named = str(path), parse_name(str(path))
    datasets.disable_progress_bars()
    revision = None if named.local else _commit(text, named)
    try:
        data = _load(datasets, named, revision)
    except Exception as error:  # whatever a reader of the many formats raises
        hint = "give a folder of data files, or one that save_to_disk wrote" if named.local else FORM
        raise DataError([f"{text}: {_why(error)}"], hint) from None
    split = named.split
    if isinstance(data, Mapping):
        if len(data) != 1:
            raise DataError(
                [f"{text} has the splits {', '.join(data)}"], f"name one: {text}:{next(iter(data))}"
            )
        ((split, data),) = data.items()
    media = [name for name, each in data.features.items() if type(each).__name__ in MEDIA]
    data = data.remove_columns(media)
    origin = {"dataset": text, **({} if revision is None else {"revision": revision})}
    origin |= {} if split is None else {"split": split}
    origin |= {"columns left out": ", ".join(media)} if media else {}
    rows = _reader(data)
    head = tuple(record.value for record in islice(rows(), HEAD))
    if not head:
        raise DataError([f"{text}: holds no rows"], "name another split")
    return Foreign(path, "table", head, tuple(data.column_names), len(data), rows=rows, origin=origin)


def _reader(data: Any) -> Callable[[], Iterator[Record]]:
    empty = dict.fromkeys(data.column_names)

    def rows() -> Iterator[Record]:
        for place, row in enumerate(data, 1):
            yield Record(place, empty | plain_row(row, data.features))

    return rows


def _commit(text: str, named: Named) -> str:
    """The commit that a name stands for now. Raises DataError where the hub does not tell."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(named.name, revision=named.revision, timeout=TIMEOUT_S)
    except Exception as error:  # of the hub or of any layer of its client
        raise DataError(
            [f"{text}: the hub does not answer for it: {_why(error)}"],
            "check the name, the network, and HF_TOKEN of a private one; a local folder is hf:./FOLDER",
        ) from None
    return str(info.sha)


def _load(datasets: Any, named: Named, revision: str | None) -> Any:
    if not named.local:
        builder = datasets.load_dataset_builder(named.name, named.config, revision=revision)
        _must_be_inside(builder, f"hf://datasets/{named.name}@{revision}/")
        return datasets.load_dataset(named.name, named.config, split=named.split, revision=revision)
    folder = Path(named.name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError("there is no such folder")
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        _must_be_saved_inside(folder)
        data = datasets.load_from_disk(str(folder))
        if named.split is None or not isinstance(data, Mapping):
            return data
        if named.split not in data:
            raise ValueError(f"there is no split {named.split!r}; there are {', '.join(data)}")
        return data[named.split]
    _must_be_inside(datasets.load_dataset_builder(str(folder)), folder)
    return datasets.load_dataset(str(folder), split=named.split)


def _must_be_inside(builder: Any, home: Path | str) -> None:
    """Raise ValueError where the card of a dataset names data files elsewhere: any file, or any address."""
    for files in (builder.config.data_files or {}).values():
        for file in map(str, files):
            inside = file.startswith(home) if isinstance(home, str) else _is_inside(Path(file), home)
            if not inside or "/../" in file:
                raise ValueError(f"its card names a file that is not of the dataset: {file}")


def _must_be_saved_inside(folder: Path) -> None:
    """Raise ValueError where the state of a saved dataset names splits or data files elsewhere."""
    names = folder / "dataset_dict.json"
    splits = json.loads(names.read_bytes())["splits"] if names.is_file() else ["."]
    for split in splits:
        state = folder / split / "state.json"
        files = [each["filename"] for each in json.loads(state.read_bytes())["_data_files"]]
        for file in (state, *(folder / split / name for name in files)):
            if not _is_inside(file, folder):
                raise ValueError(f"its state names a file that is not of the dataset: {file}")


def _is_inside(file: Path, folder: Path) -> bool:
    return "://" not in str(file) and file.resolve().is_relative_to(folder.resolve())


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
