"""Judge and release one batch under a finite-batch guarantee."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trustescalate.calibration.alignment import lay_out, rows_to_judge, votes_digest
from trustescalate.calibration.protocol import Judged, Protocol, labels_digest
from trustescalate.calibration.scoring import scorer_of
from trustescalate.cascade.runner import Cascade, collect_judgments
from trustescalate.config import Config, OpenAIJudge
from trustescalate.data.batch import items_digest
from trustescalate.data.labels import majority
from trustescalate.errors import CertificateMismatch, DataError, UsageError
from trustescalate.judges.base import Judge
from trustescalate.judges.replay import ReplayJudge
from trustescalate.records import Annotation, Batch, Certificate, Decision, Item, Judgment
from trustescalate.records.jsonl import read_rows

BY_PEOPLE = "labelled by people"
TORN = "people labelled it, and have no majority"
OTHER_BATCH = "calibrate again, or bring back the items that were certified"


def must_offer_batches(config: Config, *, calibrates: bool = False) -> None:
    """Raise UsageError where no judge has a Batch API, or calibration cannot ask it ahead."""
    if calibrates and config.guarantee.claim == "batch":
        raise UsageError(
            'claim = "batch" decides tier by tier what to ask, so no Batch API can be asked ahead',
            "leave out --batch",
        )
    if not any(isinstance(table, OpenAIJudge) for table in config.judges):
        raise UsageError('no judge with backend = "openai", so none with a Batch API', "leave out --batch")


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
    scorer = scorer_of(protocol, judged)
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


def decide_by_labels(
    certificate: Certificate, annotations: Sequence[Annotation], items: Sequence[Item]
) -> list[Decision]:
    """The decisions on those of `items` that people labelled, where their labels are released.

    None where nobody is ahead: the item needs a person still. Raises CertificateMismatch if labels changed.
    """
    drawn = set(certificate.roles["certify"])
    if certificate.batch is None or not certificate.batch.release_human_labels:
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
