"""Judge and release one batch under a finite-batch guarantee."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trustescalate.calibration.alignment import lay_out, rows_to_judge, votes_digest
from trustescalate.calibration.protocol import Judged, Protocol, labels_digest
from trustescalate.calibration.scoring import scorer_of
from trustescalate.cascade.runner import Cascade, collect_judgments
from trustescalate.config import ChatTable, Config
from trustescalate.data.batch import items_digest
from trustescalate.data.labels import majority
from trustescalate.errors import CertificateMismatch, DataError, UsageError
from trustescalate.judges.base import Judge
from trustescalate.judges.replay import ReplayJudge
from trustescalate.records import Annotation, Batch, Certificate, Decision, Item, Judgment
from trustescalate.records.jsonl import read_rows

BY_PEOPLE = "labelled by people"
TORN = "people labelled it, and have no majority"
OTHER_BATCH = "calibrate again, or restore the certified items"


def must_offer_batches(config: Config, *, calibrates: bool = False) -> None:
    """Raise UsageError if no judge has a Batch API, or calibration cannot use it."""
    if calibrates and config.guarantee.claim == "batch":
        raise UsageError(
            'claim = "batch" selects the items of each tier after the previous one: no Batch API can be used',
            "leave out --batch",
        )
    if not any(isinstance(table, ChatTable) and table.has_batches for table in config.judges):
        raise UsageError(
            'no judge with backend = "openai", or "litellm" and a model of openai/, anthropic/ or gemini/, '
            "at one address, so none with a Batch API",
            "leave out --batch",
        )


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
    """Judge pilot and dev rows with all judges, then tier by tier the items that reach each tier.

    `collect` must put each judgment into `judged`.
    """
    fitted = protocol.roles["dev"] if protocol.asks_dev else ()
    first = [items[item_id] for item_id in dict.fromkeys((*protocol.roles["pilot"], *fitted))]
    await collect_judgments(first, judges, collect=collect, in_flight=in_flight)
    scorer = scorer_of(protocol, judged)
    plan = lay_out(protocol, annotations, judged, scorer)
    assert plan is not None, "the configuration refuses tierwise"
    for tier, judge in enumerate(judges):
        rows = [items[item_id] for item_id in rows_to_judge(protocol, plan, judged, tier, scorer)]
        await collect_judgments(rows, [judge], collect=collect, in_flight=in_flight)


def certified_items(certificate: Certificate, batch: Batch, items: Sequence[Item]) -> tuple[Item, ...]:
    """Select the batch among these items. Raises CertificateMismatch unless it is the certified one."""
    outside = {*certificate.roles["exemplars"], *certificate.roles["dev"]}
    batch_items = tuple(item for item in items if item.id not in outside)
    if items_digest(batch_items) != batch.digest:
        raise CertificateMismatch(
            f"the certificate covers another batch of {batch.items:,} items than these {len(batch_items):,}",
            OTHER_BATCH,
        )
    return batch_items


def decide_by_labels(
    certificate: Certificate, annotations: Sequence[Annotation], items: Sequence[Item]
) -> list[Decision]:
    """Decide the items with human labels, if a batch releases them; None without a majority.

    Raises CertificateMismatch if labels changed.
    """
    drawn = set(certificate.roles["certify"])
    if certificate.batch is None or not certificate.batch.release_human_labels:
        return []
    if labels_digest(annotations, drawn) != certificate.batch.labels:
        raise CertificateMismatch(
            "the human labels of the drawn rows are not those of the certificate",
            "calibrate again, or restore the labels",
        )
    truth = majority(certificate.task, [note for note in annotations if note.item_id in drawn])
    return [
        Decision(item.id, truth.get(item.id), None, None, BY_PEOPLE if truth.get(item.id) else TORN, ())
        for item in items
        if item.id in drawn
    ]


def recorded_cascade(cascade: Cascade, batch: Batch, votes: Path) -> Cascade:
    """Replace the judges of a cascade by the certified votes, so that the tested verdicts are released.

    Raises CertificateMismatch if the file holds other votes.
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
