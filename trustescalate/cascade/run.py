"""Send items through a certified cascade and record the run; a kill at any moment loses no recorded row."""

import os
import platform
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trustescalate import __version__
from trustescalate.calibration.evidence import must_keep_texts, must_rest_on_evidence
from trustescalate.calibration.files import CERTIFICATE_VOTES, certificate_votes, read_certificate
from trustescalate.calibration.served_models import bound_models, compare_served, pinned_judges
from trustescalate.cascade.attempt_log import Attempt, recorded_attempt
from trustescalate.cascade.basis import basis_of, would_judge
from trustescalate.cascade.batch import decide_by_labels, recorded_cascade
from trustescalate.cascade.conformal_run import Recorder, judge_then_decide
from trustescalate.cascade.fit_judges import fitting_rows
from trustescalate.cascade.panel import Asking, Panel, open_panel
from trustescalate.cascade.run_folder import (
    RUNS,
    SCHEMA,
    RunFolder,
    find_run,
    numbered_runs,
    used_items,
    with_labels,
)
from trustescalate.cascade.run_writer import RunWriter, to_ask_again
from trustescalate.cascade.runner import (
    Cascade,
    must_certify,
    must_certify_groups,
    must_expect,
    must_fit,
    run_cascade,
    trusted_cascade,
)
from trustescalate.cascade.shards import begun_shard, must_be_decided_apart, part_of, read_shard
from trustescalate.cascade.shared_replies import replies_of
from trustescalate.cascade.uncertified import (
    bind,
    cascade_without,
    must_name_judges,
    open_uncertified,
    prepare,
)
from trustescalate.config import Config
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.errors import BudgetReached, NoCertificate, TrustEscalateError, UsageError
from trustescalate.judges.base import Judge
from trustescalate.judges.budget import Budget
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.fingerprints import judge_inputs
from trustescalate.records import Certificate, Channel, Decision, Item, Judgment, Run, RunHeader
from trustescalate.records.columns import Column, Place
from trustescalate.records.criteria import count_in_words
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.item_columns import items_of, places_of
from trustescalate.records.judge_counts import count_votes
from trustescalate.records.progress import Hooks, Progress
from trustescalate.records.stored import items_digest, take_items

WITHOUT = "`trustescalate run --uncertified` judges without a certificate, and releases nothing"
RECORDED_PACKAGES = ("numpy", "openai", "scipy", "torch", "transformers")


async def run_items(
    config: Config,
    hooks: Hooks,
    asking: Asking,
    *,
    items: Path | None = None,
    resume: str | None = None,
    shard: str | None = None,
    thresholds: Mapping[str, float] | None = None,
    command: Sequence[str],
) -> tuple[Run, Dataset]:
    """Run a project, and return the data with the run; `Project.run` documents effects and errors."""
    with begin_attempt(config.folder, hooks, command, resume or "") as attempt:
        if resume is not None and items is not None and shard is None:
            raise UsageError("a resumed run has its items already", "leave out --items or --resume")
        items_file = None if items is None else os.path.relpath(items, config.folder)
        if asking.batch and not asking.use_cache:
            raise UsageError("a batch needs the cache", "leave out --no-cache or --batch")
        part = None if shard is None else read_shard(shard)
        if resume is None or part is None:
            folder = None if resume is None else find_run(config.folder, resume)
        else:
            folder = begun_shard(config.folder, part, resume, items_file)
        if folder is not None:
            attempt.run = folder.header.id
        thresholds = _thresholds_of(config, folder, thresholds)
        data = load_dataset(config)
        must_keep_texts(config, data)

        def begun(config: Config, certificate: Certificate) -> RunFolder:
            nonlocal folder
            if folder is None:
                folder = _new_run(
                    config, hooks, data, certificate, items, command, attempt.number, thresholds, part
                )
                attempt.run = folder.header.id
            return folder

        if thresholds is None:
            certificate = folder.header.certificate if folder else _certificate(config)
            must_be_asked_for(config, data, certificate)
            if part is not None:
                must_be_decided_apart(certificate)
            async with open_certified(config, hooks, data, certificate, asking) as panel:
                cascade = trusted(config, data, certificate, panel.judges)
                await _judge(config, begun(config, certificate), data, panel, cascade, hooks)
        else:
            without = prepare(config, hooks, data, None if folder is None else folder.header)
            async with open_uncertified(without, hooks, data, asking) as panel:
                none = folder.header.certificate if folder else bind(without, data, panel.judges, hooks.now())
                cascade = cascade_without(without, data, none, panel.judges, thresholds)
                await _judge(config, begun(without.config, none), data, panel, cascade, hooks)
        assert folder is not None
        data = load_dataset(config)  # its files may have grown while the judges worked
        run = with_labels(folder, data)
        for served in compare_served(run.header.certificate, run.judgments):
            if served.changed:
                hooks.notice(served.sentence)
        if failed := to_ask_again(run):
            again = count_in_words(list(items_of(run.items, failed)))
            what = "have" if run.uncertified else "went to people with"
            hooks.notice(f"{again} {what} failed votes; resume this run to ask them again")
        if run.header.shard is not None:
            hooks.notice(f"this is {run.header.shard}; `trustescalate merge RUN…` makes one run of all")
        return run, data


def _certificate(config: Config) -> Certificate:
    """The certificate in place. Raises NoCertificate, with what can be had without one."""
    try:
        return read_certificate(config.folder)
    except NoCertificate as error:
        error.hint = f"{error.hint}; {WITHOUT}"
        raise


def _thresholds_of(
    config: Config, folder: RunFolder | None, given: Mapping[str, float] | None
) -> Mapping[str, float] | None:
    """The thresholds of an uncertified run, which a resumed one keeps; None for a certified run."""
    if folder is None:
        if given is not None:
            must_name_judges(config, given)
        return given
    recorded = folder.header.uncertified
    if given is not None and recorded is None:
        raise UsageError(f"run {folder.header.id} is certified", "leave out --uncertified")
    if given and given != recorded:
        raise UsageError("a resumed run keeps its thresholds", "leave out --threshold, or start a new run")
    return recorded


def begin_attempt(
    folder: Path, hooks: Hooks, command: Sequence[str], resume: str = ""
) -> AbstractContextManager[Attempt]:
    """Record an attempt to run a project folder, and how it ends."""
    numbers = [int(number) for number, _ in numbered_runs(folder) if number < float("inf")]
    after = max(numbers, default=0)
    return recorded_attempt(folder / RUNS, hooks.now, shlex.join(command), run=resume, after=after)


async def _judge(
    config: Config, folder: RunFolder, data: Dataset, panel: Panel, cascade: Cascade | None, hooks: Hooks
) -> None:
    """Decide all items of a run that are not decided, and record how it ended."""
    with RunWriter(folder, pinned_judges(config.model_dump(mode="json"))) as writer:
        run = writer.begin(with_labels(folder, data))
        panel.ask_again(writer.asked_before)
        tally = _Tally(hooks.progress, panel.budget, run)
        shared = replies_of(config, run)

        def decided(decision: Decision) -> None:
            if hooks.decided is not None and not run.uncertified:
                item = run.items[places_of(run.items)[decision.item_id]]
                hooks.decided(item, decision, run.header.certificate)

        def record(judgments: Sequence[Judgment], decision: Decision) -> None:
            writer.record(list(map(shared.count, judgments)), decision)
            shared.end(decision.item_id)
            tally.add(judgments, decision)
            decided(decision)

        try:
            for decision in decide_by_labels(run.header.certificate, data.annotations, tally.undecided(run)):
                record((), decision)
            if cascade is None:
                await judge_then_decide(
                    run,
                    panel.judges,
                    data.items,
                    Recorder(writer, tally.judged, decided),
                    ahead=panel.ask_ahead,
                    in_flight=panel.in_flight,
                )
            else:
                todo = tally.undecided(run)
                if panel.deferred is not None:
                    await panel.deferred.cascade(todo, cascade, panel.in_flight)
                await run_cascade(todo, cascade, record=record, in_flight=panel.in_flight)
        except BudgetReached:
            writer.stop("budget")
            raise
        except TrustEscalateError:
            writer.stop("stopped")
            raise
        except BaseException:
            folder.finish("stopped")
            raise
        folder.finish("complete")


def open_certified(
    config: Config, hooks: Hooks, data: Dataset, certificate: Certificate, asking: Asking
) -> AbstractAsyncContextManager[Panel]:
    """Open the judges bound by the certificate: its few-shot examples and verdict channels."""
    exemplars = exemplars_of(config, data, certificate.roles["exemplars"])
    fitted_on = certificate_votes(config.folder, certificate) if "last_judge" in config.fitted_on else None
    recorded = [row for rows in (fitted_on or {}).values() for row in rows.values()]
    rows = fitting_rows(config, data, certificate.roles, recorded)
    channels: dict[str, Channel] = {seal.judge: seal.channel for seal in certificate.judges}
    served = bound_models(certificate, pinned_judges(config.model_dump(mode="json")))
    return open_panel(config, hooks, exemplars, asking, rows=rows, channels=channels, served=served)


def must_be_asked_for(config: Config, data: Dataset, certificate: Certificate) -> None:
    """Raise CertificateMismatch or NoCertificate unless the certificate fits [guarantee] and its evidence."""
    guarantee = config.guarantee
    try:
        if guarantee.claim == "expected":
            must_expect(certificate, guarantee.alpha)
        else:
            must_certify(certificate, guarantee.claim, guarantee.alpha, guarantee.delta)
    except NoCertificate as error:
        error.hint = "; ".join(filter(None, (error.hint, WITHOUT)))
        raise
    must_certify_groups(certificate, config.groups.by, config.groups.alpha)
    must_rest_on_evidence(config, data, certificate)


def trusted(
    config: Config, data: Dataset, certificate: Certificate, judges: Sequence[Judge]
) -> Cascade | None:
    """Return the certified cascade; None for the claim "expected", which escalates nothing."""
    inputs = judge_inputs(config, exemplars_of(config, data, certificate.roles["exemplars"]))
    fitted = (config.task.task(), config.ensemble.estimator, inputs)
    if certificate.status == "expected":
        must_fit(certificate, judges, *fitted)
        return None
    cascade = trusted_cascade(certificate, judges, *fitted)
    if certificate.batch is None:
        return cascade
    return recorded_cascade(cascade, certificate.batch, config.folder / CERTIFICATE_VOTES)


def _to_judge(
    config: Config,
    data: Dataset,
    certificate: Certificate,
    path: Path | None,
    made_of: Collection[str] | None = None,
) -> Sequence[Item]:
    items = would_judge(config, data, certificate, path, made_of)
    if not items:
        raise UsageError(
            "every item in [data] is labelled: there is nothing to judge", "name a file: --items"
        )
    return items


def _new_run(
    config: Config,
    hooks: Hooks,
    data: Dataset,
    certificate: Certificate,
    path: Path | None,
    command: Sequence[str],
    number: int,
    thresholds: Mapping[str, float] | None,
    part: tuple[int, int] | None,
) -> RunFolder:
    header = RunHeader(
        schema=SCHEMA,
        id="",
        status="running",
        created=hooks.now(),
        command=shlex.join(command),
        config=config.model_dump(mode="json"),
        certificate=certificate,
        items_digest="",
        items=0,
        versions=_versions(),
        number=number,
        items_file=None if path is None else os.path.relpath(path, config.folder),
        basis=basis_of(config, data, certificate),
        uncertified=thresholds,
    )
    made_of = None if thresholds is None else used_items(header)
    items = _to_judge(config, data, certificate, path, made_of)
    if part is not None:
        items, shard = part_of(items, *part)
        header = replace(header, shard=shard)
    header = replace(header, items_digest=items_digest(items), items=len(items))
    return RunFolder.create(config.folder, header, items)


def _versions() -> dict[str, str]:
    versions = {"trustescalate": __version__, "python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


class _Tally:
    """Counts decisions for the progress display; nothing that is recorded depends on it."""

    def __init__(self, progress: Callable[[Progress], None], budget: Budget, run: Run) -> None:
        self._progress = progress
        self._budget = budget
        self._total = len(run.items)
        self._uncertified = run.uncertified
        self._escalated = self._abstained = self._failed = 0
        self._places, self._decided = places_of(run.items), bytearray(len(run.items))
        self._done = 0
        for place, decision in placed_decisions(run):
            self._count(place, decision)
        self.judged(count_votes(run.judgments).whole.failed)

    def undecided(self, run: Run) -> Sequence[Item]:
        """Return the items without a decision."""
        return take_items(
            run.items, Column("I", (k for k, decided in enumerate(self._decided) if not decided))
        )

    def judged(self, failed: int, done: int | None = None) -> None:
        """Count failed votes and show the progress: the items decided, or `done` to be decided later."""
        self._failed += failed
        self._progress(
            self._budget.progress(
                "judging",
                self._done if done is None else done,
                self._total,
                failed=self._failed,
                escalated=self._escalated,
                abstained=self._abstained,
            )
        )

    def add(self, judgments: Sequence[Judgment], decision: Decision) -> None:
        """Count a decision and the votes that it rests on."""
        self._count(self._places[decision.item_id], decision)
        self.judged(sum(judgment.failed for judgment in judgments))

    def _count(self, place: Place, decision: Decision) -> None:
        self._decided[place] = True
        self._done += 1
        self._escalated += len(decision.trail) > 1
        self._abstained += decision.label is None and not self._uncertified
