"""One batch: which of its items people label, what the judges must say of it, and its release.

The draw is the only chance that the promise is about. So it looks at no label, nor at which items have one:
the same items and the same seed give the same draw, and judges are shown rows that were drawn for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from trustescalate.calibrate import lay_out, rows_to_judge, votes_digest
from trustescalate.cascade import Cascade, collect_judgments
from trustescalate.dataset import Dataset
from trustescalate.errors import CertificateMismatch, ConfigError, DataError, NotMeasurable
from trustescalate.jsonl import digest, encode, read_rows, to_python, write_atomically, write_rows
from trustescalate.judges.base import Judge
from trustescalate.judges.replay import ReplayJudge
from trustescalate.labels import majority
from trustescalate.protocol import Judged, Protocol, labels_digest
from trustescalate.scoring import fit_scorer
from trustescalate.types import Annotation, Batch, Certificate, Decision, Item, Judgment

DRAW = "batch.json"
TO_LABEL = "to_label.jsonl"
BY_PEOPLE = "labelled by people"
TORN = "people labelled it, and have no majority"
OTHER_BATCH = "calibrate again, or bring back the items that were certified"


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn, as written to batch.json: `batch` is a digest of the batch, which has `size` items.

    People label the rows in `exemplars` and `dev`, which are no part of the batch, and those in `certify`.
    """

    seed: int
    size: int
    batch: str
    exemplars: tuple[str, ...]
    dev: tuple[str, ...]
    certify: tuple[str, ...]

    @property
    def drawn(self) -> frozenset[str]:
        """All that people label."""
        return frozenset((*self.exemplars, *self.dev, *self.certify))


def draw_rows(items: Sequence[Item], label: int, exemplars: int, dev: float, seed: int) -> Draw:
    """Draw `label` rows for people: examples for the judges first, then the share `dev`, then the sample.

    The items are shuffled by a seeded hash that knows all of them, so any change gives another draw. Given
    the rows before it, the sample is uniform among all others. Raises ConfigError where too few rows remain.
    """
    if label > len(items):
        raise ConfigError(f"[guarantee] label = {label}, but there are {len(items)} items", "lower it")
    tuned = exemplars + ceil(dev * label)
    if tuned >= label:
        raise ConfigError(
            f"of {label} rows to label, {tuned} are for examples and dev, and none is left to certify with",
            "raise [guarantee] label, or lower [roles] exemplars and dev",
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
        "let people label them, add their answers to [data] annotations, and calibrate again",
    )


def to_label(draw: Draw, data: Dataset) -> list[Item]:
    """The drawn items that nobody annotated, in the order of the file, which tells nothing of their roles."""
    return [item for item in data.items if item.id in draw.drawn - data.annotated]


async def judge_batch(
    protocol: Protocol,
    annotations: Sequence[Annotation],
    items: Mapping[str, Item],
    judges: Sequence[Judge],
    *,
    judged: Judged,
    collect: Callable[[Judgment], None],
    in_flight: int,
) -> None:
    """Ask what the certificate takes: all judges about pilot and dev rows, then tier by tier what is needed.

    `collect` must put each judgment into `judged`.
    """
    fitted = protocol.roles["dev"] if protocol.asks_dev else ()
    first = [items[item_id] for item_id in dict.fromkeys((*protocol.roles["pilot"], *fitted))]
    await collect_judgments(first, judges, collect=collect, in_flight=in_flight)
    scorer = fit_scorer(protocol, annotations, judged, items)
    plan = lay_out(protocol, annotations, judged, scorer)
    assert plan is not None, "the configuration refuses tierwise"
    for tier, judge in enumerate(judges):
        rows = [items[item_id] for item_id in rows_to_judge(protocol, plan, judged, tier, scorer)]
        await collect_judgments(rows, [judge], collect=collect, in_flight=in_flight)


def certified_items(certificate: Certificate, batch: Batch, items: Sequence[Item]) -> tuple[Item, ...]:
    """The batch among these items. Raises CertificateMismatch unless it is the one that was certified."""
    outside = {*certificate.roles["exemplars"], *certificate.roles["dev"]}
    found = tuple(item for item in items if item.id not in outside)
    if items_digest(found) != batch.digest:
        raise CertificateMismatch(
            f"the certificate is about a batch of {batch.items:,} items, and these {len(found):,} are not it",
            OTHER_BATCH,
        )
    return found


def labelled_by_people(
    certificate: Certificate, annotations: Sequence[Annotation], items: Sequence[Item]
) -> list[Decision]:
    """The decisions on those of `items` that people labelled, where their labels are released.

    None where nobody is ahead: the item needs a person still. Raises CertificateMismatch if labels changed.
    """
    drawn = set(certificate.roles["certify"])
    if certificate.batch is None or not certificate.batch.humans_replace:
        return []
    if labels_digest(annotations, drawn) != certificate.batch.labels:
        raise CertificateMismatch(
            "people's labels of the rows that were drawn are not those that the certificate was made with",
            "calibrate again, or bring the labels back",
        )
    said = majority(certificate.task, [note for note in annotations if note.item_id in drawn])
    return [
        Decision(item.id, said.get(item.id), None, None, BY_PEOPLE if said.get(item.id) else TORN, ())
        for item in items
        if item.id in drawn
    ]


def recorded_cascade(cascade: Cascade, batch: Batch, votes: Path) -> Cascade:
    """The cascade with the certified votes in place of its judges: what is released is what was tested.

    Raises CertificateMismatch where the file holds other votes.
    """
    rows, problems = read_rows(votes, Judgment)
    if problems:
        raise DataError(problems, "calibrate again")
    judged: dict[str, dict[str, Judgment]] = {}
    for _, row in rows:
        judged.setdefault(row.judge, {})[row.item_id] = row
    if votes_digest(judged) != batch.votes:
        raise CertificateMismatch(f"{votes}: not the votes of this certificate", "calibrate again")
    return replace(
        cascade,
        tiers=tuple(
            replace(tier, judge=ReplayJudge(tier.judge.name, list(judged[tier.judge.name].values())))
            if tier.judge.name in judged
            else tier
            for tier in cascade.tiers
        ),
    )
