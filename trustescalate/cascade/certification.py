"""Judge the calibration set, test every policy, and write the certificate."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from trustescalate.calibration.attempts import due_attempt, enter_test
from trustescalate.calibration.calibrate import calibrate
from trustescalate.calibration.evidence import must_keep_texts
from trustescalate.calibration.files import write_certificate
from trustescalate.calibration.ledger import enter_outcome, labels_of
from trustescalate.calibration.losses import losses
from trustescalate.calibration.no_certificate import must_suffice
from trustescalate.calibration.prepare import (
    build_protocol,
    draw_batch,
    must_be_due,
    must_be_human,
    select_rows,
    testable_ledger,
)
from trustescalate.calibration.protocol import Protocol
from trustescalate.calibration.region import applied_region, must_follow_region
from trustescalate.calibration.selection import Selection, must_be_clusters
from trustescalate.calibration.served_models import compare_served
from trustescalate.cascade.batch import judge_batch, must_offer_batches
from trustescalate.cascade.fit_judges import fitting_rows
from trustescalate.cascade.panel import Asking, Panel, open_panel
from trustescalate.cascade.renewal import STANDS, still_standing, undisturbed
from trustescalate.cascade.runner import collect_judgments
from trustescalate.cascade.shared_replies import SharedReplies, asks_together
from trustescalate.config import Config
from trustescalate.data.batch import Draw, must_be_labelled
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.data.labels import without_labels
from trustescalate.errors import DataError, NotMeasurable, ProviderError
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.fingerprints import judge_inputs
from trustescalate.records import Certificate, Item, Judgment, Vote, first_reply
from trustescalate.records.failures import describe_kinds, is_down
from trustescalate.records.item_columns import items_by_id
from trustescalate.records.progress import Hooks


async def certify(config: Config, hooks: Hooks, asking: Asking) -> Certificate:
    """Calibrate a project; `Project.calibrate` documents effects and errors."""
    data, drawn = _checked_data(config, asking)
    selected = select_rows(config, data)
    must_be_due(config, selected)
    roles, by_id = selected.roles, items_by_id(data.items)
    region = None if drawn is not None else applied_region(config, data)
    certify_ids = (*roles["certify"], *roles.get("region", ()))
    ledger = testable_ledger(config.folder, certify_ids)
    labels = labels_of([by_id[item_id] for item_id in certify_ids], data.annotations)
    items = [by_id[item_id] for item_id in _to_judge(config, selected)]
    exemplars, rows = exemplars_of(config, data, roles["exemplars"]), fitting_rows(config, data, roles)
    attempts = config.guarantee.attempts
    async with open_panel(config, hooks, exemplars, asking, rows=rows) as panel:
        bindings = [(judge.name, judge.fingerprint) for judge in panel.judges]
        grouped = any(item.group for item in items)
        protocol = build_protocol(config, data, selected, bindings, grouped=grouped)
        attempt, _ = due_attempt(ledger, protocol, labels, data.annotations, attempts)
        must_suffice(replace(protocol, attempt=attempt), _with_loss(protocol, data))
        if region is not None:
            must_follow_region(region, protocol)
        judged = await _judge(config, hooks, panel, protocol, data, items, drawn)
    most = config.gate.max_failure_share
    must_be_answered(judged, MOST_DOWN if most is None else most)
    ledger, attempt = enter_test(ledger, protocol, labels, data.annotations, attempts, judged)
    certificate = calibrate(
        replace(protocol, attempt=replace(attempt, ledger="")),
        data.annotations,
        judged,
        created=hooks.now(),
        batch_digest="" if drawn is None else drawn.batch,
        items=by_id,
    )
    every = (judgment for rows in judged.values() for judgment in rows.values())
    for served in compare_served(certificate, every):
        if len(served.now) > 1:
            hooks.notice(f"{served.judge} was answered by several models at calibration: {served.counts}")
    inputs = judge_inputs(config, exemplars)
    bound = tuple(replace(seal, inputs=inputs[seal.judge]) for seal in certificate.judges)
    certificate = replace(certificate, attempt=attempt, judges=bound)
    ledger = enter_outcome(ledger, certificate)
    if (standing := still_standing(config.folder, ledger, certificate, judged)) is not None:
        assert standing.attempt is not None
        hooks.notice(STANDS.format(number=standing.attempt.number))
        return standing
    certificate = undisturbed(config.folder, certificate)
    write_certificate(config.folder, certificate, judged)
    return certificate


def must_be_answered(judged: Mapping[str, Mapping[str, Judgment]], most: float) -> None:
    """Raise where failures, and not verdicts, would decide the outcome: nothing is tested or replaced.

    ProviderError where more than the share `most` of a judge's votes got no answer, NotMeasurable where more
    than half of the rows have no vote of any judge that can be used. Votes are read and no label, so
    this is no choice by the outcome.
    """
    for name, rows in judged.items():
        votes = [vote for row in rows.values() for vote in row.votes]
        down = [vote.failure for vote in votes if vote.failure is not None and is_down(vote.failure)]
        if len(down) > most * len(votes):
            raise ProviderError(
                f"judge {name!r} left {len(down):,} of {len(votes):,} votes open: {describe_kinds(down)}",
                "nothing was tested and no certificate replaced: wait until the judge answers",
            )
    by_row: dict[str, list[Vote]] = {}
    for rows in judged.values():
        for item_id, row in rows.items():
            by_row.setdefault(item_id, []).extend(row.votes)
    lost = [
        votes
        for votes in by_row.values()
        if all(vote.failure is not None and vote.failure != "not_recorded" for vote in votes)
    ]
    if 2 * len(lost) > len(by_row):
        failed = [vote for votes in lost for vote in votes]
        kinds = describe_kinds(vote.failure for vote in failed if vote.failure is not None)
        reply = first_reply(failed)
        example = f"; the first reply: {reply}" if reply else ""
        raise NotMeasurable(
            f"no judge gave a usable vote on {len(lost):,} of {len(by_row):,} rows: {kinds}{example}",
            "nothing was tested and no certificate replaced; `trustescalate judges try` shows a reply",
        )


MOST_DOWN = 0.05
"""The share of a judge's votes without an answer that spoils a calibration, unless [gate] limits failures."""


def _with_loss(protocol: Protocol, data: Dataset) -> Collection[str]:
    """The rows that can be tested: in a batch all, else those whose labels say what each verdict loses."""
    known = losses(protocol.task, protocol.reference, data.annotations)
    return [row for row in protocol.tested if protocol.claim == "batch" or row in known]


def _checked_data(config: Config, asking: Asking) -> tuple[Dataset, Draw | None]:
    """Load the data and the rows that a batch draws. Raises if they cannot certify anything."""
    data = load_dataset(config)
    must_keep_texts(config, data)
    drawn = draw_batch(config, data)
    if asking.batch:
        must_offer_batches(config, calibrates=True)
    if drawn is not None:
        must_be_labelled(drawn, data, config.folder)
    if not data.annotations:
        raise DataError(
            [f"{config.path(config.data.annotations)}: no human labels"], without_labels(config.folder)
        )
    must_be_human(config, data)
    if drawn is None:
        must_be_clusters(config, data)
    return data, drawn


def _to_judge(config: Config, selected: Selection) -> list[str]:
    """Return the ids of the items that every judge judges, each once."""
    roles = selected.roles
    fitted = roles["dev"] if config.asks_dev else ()
    candidates = () if selected.region is None else selected.region.candidates
    wanted = (*roles["certify"], *roles.get("region", ()), *roles["pilot"], *fitted, *candidates)
    return list(dict.fromkeys(wanted))


async def _judge(
    config: Config,
    hooks: Hooks,
    panel: Panel,
    protocol: Protocol,
    data: Dataset,
    items: list[Item],
    drawn: Draw | None,
) -> Mapping[str, Mapping[str, Judgment]]:
    """Collect every judgment of the certificate, by judge and item."""
    judged: dict[str, dict[str, Judgment]] = {judge.name: {} for judge in panel.judges}
    total = len(items) if drawn is None else drawn.size * len(config.judges)
    last = panel.judges[-1].name
    shared = SharedReplies(asks_together(config))

    failed = 0

    def collect(judgment: Judgment) -> None:
        nonlocal failed
        failed += judgment.failed
        judged[judgment.judge][judgment.item_id] = shared.count(judgment)
        done = len(judged[last]) if drawn is None else sum(map(len, judged.values()))
        hooks.progress(panel.budget.progress("calibrating", done, total, failed=failed))

    hooks.progress(panel.budget.progress("calibrating", 0, total))
    await panel.ask_ahead(items)
    if drawn is None:
        await collect_judgments(items, panel.judges, collect=collect, in_flight=panel.in_flight)
    else:
        by_id = items_by_id(data.items)
        await judge_batch(
            protocol,
            data.annotations,
            by_id,
            panel.judges,
            judged=judged,
            collect=collect,
            in_flight=panel.in_flight,
        )
    return judged
