"""Draw the rows of one batch for human labels.

This draw is the only randomness of the finite-batch guarantee. It is independent of labels and of which items
have one: the same items and the same seed give the same draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from trustescalate.data.dataset import Dataset
from trustescalate.errors import ConfigError, NotMeasurable
from trustescalate.records import Item
from trustescalate.records.jsonl import digest, encode, to_python, write_atomically, write_rows

DRAW = "batch.json"
TO_LABEL = "to_label.jsonl"


@dataclass(frozen=True, slots=True)
class Draw:
    """A draw, as written to batch.json: `batch` is a digest of the batch, which has `size` items.

    Human labels are needed for `exemplars` and `dev`, which are no part of the batch, and for `certify`.
    """

    seed: int
    size: int
    batch: str
    exemplars: tuple[str, ...]
    dev: tuple[str, ...]
    certify: tuple[str, ...]

    @property
    def drawn(self) -> frozenset[str]:
        """The ids of all rows to label."""
        return frozenset((*self.exemplars, *self.dev, *self.certify))


def draw_rows(items: Sequence[Item], label: int, exemplars: int, dev: float, seed: int) -> Draw:
    """Draw `label` rows to label: few-shot examples first, then the share `dev`, then the sample.

    The items are shuffled by a seeded hash of all of them, so any change gives another draw. Given the rows
    before it, the sample is uniform among all others. Raises ConfigError where too few rows remain.
    """
    if label > len(items):
        raise ConfigError(f"[guarantee] label_budget = {label}, but there are {len(items)} items", "lower it")
    tuned = exemplars + ceil(dev * label)
    if tuned >= label:
        raise ConfigError(
            f"of {label} rows to label, {tuned} are for examples and dev, and none is left to certify with",
            "raise [guarantee] label_budget, or lower [roles] exemplars and dev",
        )
    whole = items_digest(items)
    order = sorted((item.id for item in items), key=lambda item_id: digest("draw", seed, whole, item_id))
    outside = set(order[:tuned])
    batch = [item for item in items if item.id not in outside]
    return Draw(
        seed=seed,
        size=len(batch),
        batch=items_digest(batch),
        exemplars=tuple(order[:exemplars]),
        dev=tuple(order[exemplars:tuned]),
        certify=tuple(order[tuned:label]),
    )


def items_digest(items: Sequence[Item]) -> str:
    """A hash of items, whatever their order."""
    return digest([to_python(item) for item in sorted(items, key=lambda item: item.id)])


def must_be_labelled(draw: Draw, data: Dataset, folder: Path) -> None:
    """Log the draw; where rows still need a label, write them to a file and raise NotMeasurable."""
    write_atomically(folder / DRAW, encode(draw) + b"\n")
    missing = to_label(draw, data)
    path = folder / TO_LABEL
    if not missing:
        path.unlink(missing_ok=True)
        return
    write_rows(path, missing)
    raise NotMeasurable(
        f"{len(missing):,} of {len(draw.drawn):,} rows that were drawn have no label yet: {path}",
        "add their human labels to [data] annotations, and calibrate again",
    )


def to_label(draw: Draw, data: Dataset) -> list[Item]:
    """The drawn items without annotations, in the order of the file, which reveals no roles."""
    return [item for item in data.items if item.id in draw.drawn - data.annotated]
