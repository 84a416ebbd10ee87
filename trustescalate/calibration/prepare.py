"""Decide everything that a calibration decides before a label of a certification row is read.

Roles, the ledger of earlier tests, the rows that a batch draws, and the protocol.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from trustescalate import __version__
from trustescalate.calibration.files import stored_certificate
from trustescalate.calibration.ledger import Ledger, enter_choice, labels_of, must_hold, read_ledger
from trustescalate.calibration.protocol import GroupRule, LeaveOut, Protocol, rule_of
from trustescalate.calibration.region import applied_region
from trustescalate.calibration.selection import Selection, lot, select
from trustescalate.config import Config
from trustescalate.data.batch import Draw, draw_rows
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.data.quality import model_labels
from trustescalate.data.roles import Role, assign_roles
from trustescalate.errors import DataError, NoCertificate, NotMeasurable, UsageError
from trustescalate.records import Item
from trustescalate.records.item_columns import items_of
from trustescalate.records.item_fields import values_of
from trustescalate.records.jsonl import write_atomically

ROLES = "roles.json"
LARGEST_EXEMPLAR_SHARE = 0.2


# ── roles ────────────────────────────────────────────────────────────────────────────────────────


def exemplars_wanted(config: Config, labelled: int) -> int:
    """The number of labelled rows that become few-shot examples."""
    if not config.needs_exemplars:
        return 0
    shots = config.ensemble.shots * max(1, len(config.criteria))
    return min(config.ensemble.members * shots, max(shots, int(LARGEST_EXEMPLAR_SHARE * labelled)))


def select_rows(config: Config, data: Dataset) -> Selection:
    """Item ids by role, and how the rows to certify with came about: clusters, weights, interim analyses.

    No label is looked at: only which items have any, in a batch not even that.
    """
    drawn = draw_batch(config, data)
    if drawn is not None:
        return Selection(_batch_roles(config, drawn, data))
    wanted = exemplars_wanted(config, len(data.labelled))
    past, region = read_ledger(config.folder), applied_region(config, data)
    return select(config, data, wanted, past, region)


def draw_batch(config: Config, data: Dataset) -> Draw | None:
    """The rows that annotators label, with the claim "batch"; else None."""
    label, given = config.guarantee.label_budget, config.roles
    if label is None:
        return None
    wanted = exemplars_wanted(config, label) if given.exemplars is None else given.exemplars
    return draw_rows(data.items, label, wanted, given.dev, given.seed)


def _batch_roles(config: Config, drawn: Draw, data: Dataset) -> Mapping[str, tuple[str, ...]]:
    batch = [item for item in data.items if item.id not in {*drawn.exemplars, *drawn.dev}]
    certify, seed = set(drawn.certify), config.roles.seed

    def first(item: Item) -> str:
        return lot(seed, item)

    return {
        "exemplars": tuple(item.id for item in data.items if item.id in drawn.exemplars),
        "dev": drawn.dev,
        "holdout": (),
        "certify": drawn.certify,
        "undrawn": tuple(item.id for item in batch if item.id not in certify),
        "pilot": tuple(item.id for item in sorted(batch, key=first)[: config.guarantee.pilot]),
    }


@dataclass(frozen=True, slots=True)
class WrittenRoles:
    """Roles that were drawn and written. `named`: whether the configuration names the file."""

    file: str
    seed: int
    roles: Mapping[str, tuple[str, ...]]
    named: bool

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "file": self.file,
            "seed": self.seed,
            "roles": {role: list(ids) for role, ids in self.roles.items()},
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        lines = [f"{role + ':':<12} {len(ids):,}" for role, ids in self.roles.items()]
        if not self.named:
            lines.append(
                f"put this into the configuration: [roles] file = {json.dumps(Path(self.file).name)}"
            )
        return lines


def write_roles(config: Config) -> WrittenRoles:
    """Draw the roles of the labelled rows, and write them where [roles] file says, or to roles.json.

    From then on rows that come or go change no other row's role. Raises UsageError if the file is there.
    """
    given, data = config.roles, load_dataset(config)
    if config.guarantee.claim == "batch":
        raise UsageError('claim = "batch" draws its rows itself', "there are no roles to write")
    path = config.path(given.file or ROLES)
    if path.exists():
        raise UsageError(
            f"{path} is there already", "roles that were drawn stay; remove the file to draw anew"
        )
    labelled = data.labelled
    drawn = assign_roles(labelled, given, exemplars_wanted(config, len(labelled)))
    roles = {role: tuple(item.id for item in labelled if drawn[item.id] == role) for role in get_args(Role)}
    write_atomically(path, json.dumps(roles, indent=1, ensure_ascii=False).encode() + b"\n")
    return WrittenRoles(str(path), given.seed, roles, named=given.file is not None)


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────


def current_ledger(folder: Path, certify: Iterable[str] = ()) -> Ledger:
    """The ledger. Raises CertificateMismatch where it is not the one of the certificate in place."""
    ledger = read_ledger(folder)
    with suppress(NoCertificate, DataError):  # nothing to hold it against, or nothing that can be read
        must_hold(ledger, stored_certificate(folder), certify)
    return ledger


def testable_ledger(folder: Path, certify: Sequence[str]) -> Ledger:
    """The ledger, where it leaves any rows to certify with. Raises NotMeasurable where it does not."""
    ledger = current_ledger(folder, certify)
    if not certify and ledger.chosen_by:
        raise NotMeasurable(
            "labels of every row that could certify were read to choose by "
            f"({', '.join(sorted(set(ledger.chosen_by.values())))})",
            "label more rows: those that were read have the role dev from now on",
        )
    return ledger


def record_choice(config: Config, command: str, item_ids: Iterable[str]) -> None:
    """Write to the ledger that a command reads the labels of these items to choose by.

    They certify nothing afterwards, but the tests that were made of them may be repeated as they were.
    Raises CertificateMismatch where the ledger is not the certificate's.
    """
    data, wanted = load_dataset(config), set(item_ids)
    ledger = current_ledger(config.folder)
    items = list(items_of(data.items, wanted & data.annotated))
    enter_choice(ledger, command, labels_of(items, data.annotations))


# ── the protocol ─────────────────────────────────────────────────────────────────────────────────


def build_protocol(
    config: Config, data: Dataset, selected: Selection, judges: Iterable[tuple[str, str]], *, grouped: bool
) -> Protocol:
    """The protocol of a calibration with these judges, each with its fingerprint."""
    guarantee = config.guarantee
    certify = set(selected.roles["certify"])
    rows = list(items_of(data.items, certify))
    return Protocol(
        task=config.task.task(),
        rule=rule_of(guarantee),
        claim=guarantee.claim,
        estimator=config.ensemble.estimator,
        judges=tuple(judges),
        roles=selected.roles,
        grouped=grouped,
        seed=config.roles.seed,
        version=__version__,
        groups=_group_rule(config, rows),
        leave_out=_leave_out(config, rows),
        reference=guarantee.reference,
        clusters=selected.clusters,
        interim=selected.interim,
        weighting=selected.weighting,
        release_human_labels=guarantee.release_human_labels,
        drawn_from=selected.drawn_from,
        region=selected.region,
    )


def _group_rule(config: Config, rows: Sequence[Item]) -> GroupRule | None:
    given = config.groups
    if given.by is None:
        return None
    values = values_of(rows, given.by)
    return GroupRule(given.by, values, given.alpha, given.weights, given.target_coverage, given.min_rows)


def _leave_out(config: Config, rows: Sequence[Item]) -> LeaveOut | None:
    by = config.groups.evidence or (None if config.criteria else config.groups.by)
    return None if by is None else LeaveOut(by, values_of(rows, by))


# ── what stands in the way ───────────────────────────────────────────────────────────────────────


def must_be_due(config: Config, selected: Selection) -> None:
    """Raise NotMeasurable where there are too few rows for the first interim analysis."""
    if selected.missing:
        sizes = config.guarantee.interim or ()
        raise NotMeasurable(
            f"the first interim analysis takes {sizes[0]:,} rows to certify with, {selected.missing:,} more "
            "than there are",
            f"label at least {selected.missing:,} more rows, and calibrate again; no model call was made",
        )


def must_be_human(config: Config, data: Dataset) -> None:
    """Raise DataError where every label is by a model: a certificate is about human labels."""
    named = () if config.data.labels_by == "people" else model_labels(data.annotations)
    if named:
        path = config.path(config.data.annotations)
        raise DataError(
            [f"{path}: all labels are by {', '.join(map(repr, named[:3]))}, named like a model"],
            'a certificate is about people; if they are people, say so: [data] labels_by = "people"',
        )
