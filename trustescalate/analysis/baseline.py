"""Open the run that another one is compared with."""

from dataclasses import dataclass
from pathlib import Path

from trustescalate.calibration.evidence import must_rest_on_evidence
from trustescalate.cascade.run_folder import RUNS, RunFolder, must_be_whole, run_ids, run_path, with_labels
from trustescalate.config import Config, load_config
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.errors import UsageError
from trustescalate.records import Run

CONFIG = "trustescalate.toml"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A verified run, with the data of its project, and the folder that holds its certificate's votes."""

    run: Run
    data: Dataset
    folder: Path


def open_baseline(config: Config, name: str, run: Run, data: Dataset) -> Baseline:
    """Open the baseline of a run: by its id, or by the path of a run folder or of its run.json.

    A folder may be of another project. A path is relative to the configuration, or else to the working
    directory. The labels of another project are those that the trustescalate.toml beside its folder runs
    names; without one, `data` are taken where both runs have one certificate, and else there are none. Raises
    UsageError for an unknown run, and for the run itself; DataError for a run that does not follow from its
    votes.
    """
    path = _find(config, name)
    own = path.resolve() == run_path(config.folder, path.name).resolve()
    opened = RunFolder.open(path)
    must_be_whole(opened.header)
    if opened.header.id == run.header.id:
        raise UsageError(f"the baseline {name!r} is this run itself", "name an earlier run")
    certificate = opened.header.certificate
    alike = certificate.digest == run.header.certificate.digest
    beside = path.resolve().parent.parent / CONFIG
    home, known = config, data
    if not own and path.resolve().parent.name == RUNS and beside.exists():
        home = load_config(beside)
        known = load_dataset(home)
    elif not own and not alike:
        known = Dataset((), ())
    if not alike:
        must_rest_on_evidence(home, known, certificate)
    return Baseline(with_labels(opened, known), known, home.folder)


def _find(config: Config, name: str) -> Path:
    known = run_ids(config.folder)
    if name in known:
        return run_path(config.folder, name)
    for path in (config.folder / name, Path(name)):
        folder = path.parent if path.name == "run.json" else path
        if (folder / "run.json").is_file():
            return folder
    hint = f"the last ones are {', '.join(known[-3:])}" if known else "`trustescalate run` creates one"
    raise UsageError(f"there is no run {name!r} to compare with", hint)
