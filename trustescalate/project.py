"""What each command does, as methods of one object: a configuration, its data, its judges, its runs."""

import json
import platform
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

from trustescalate import __version__
from trustescalate.analysis.leaderboard import standings
from trustescalate.analysis.score_drift import score_shift
from trustescalate.calibration.attempts import due_attempt, enter_test
from trustescalate.calibration.calibrate import CERTIFICATE_SCHEMA, calibrate
from trustescalate.calibration.ledger import (
    Ledger,
    enter_choice,
    enter_outcome,
    labels_of,
    must_hold,
    read_ledger,
)
from trustescalate.calibration.population import overall
from trustescalate.calibration.protocol import GroupRule, Judged, LeaveOut, Protocol
from trustescalate.calibration.region import applied_region, must_follow_region
from trustescalate.calibration.scoring import FEWEST, Scorer
from trustescalate.calibration.selection import Selection, lot, must_be_clusters, select
from trustescalate.cascade.batch import certified_items, judge_batch, labelled_by_people, recorded_cascade
from trustescalate.cascade.conformal_run import Recorder, judge_then_decide
from trustescalate.cascade.run_folder import SCHEMA, RunFolder
from trustescalate.cascade.runner import (
    Cascade,
    collect_judgments,
    must_expect,
    must_fit,
    must_promise,
    must_promise_by,
    patient,
    run_cascade,
    trusted_cascade,
)
from trustescalate.config import BudgetTable, Config, OpenAIJudge, load_config
from trustescalate.data.batch import Draw, draw_rows, must_be_labelled
from trustescalate.data.clusters import independent_items
from trustescalate.data.dataset import Dataset, load_dataset, load_items
from trustescalate.data.labels import majority
from trustescalate.data.quality import model_labels
from trustescalate.data.roles import Role, assign_roles
from trustescalate.errors import (
    BudgetReached,
    ConfigError,
    DataError,
    NoCertificate,
    NotMeasurable,
    UsageError,
)
from trustescalate.judges.base import Ask, Backend, Judge, Tariff
from trustescalate.judges.budget import Budget
from trustescalate.judges.cache import Cache, guard
from trustescalate.judges.exemplars import exemplar_sets
from trustescalate.judges.functions import Function
from trustescalate.judges.prompts import Exemplar
from trustescalate.judges.recall import RecallingJudge
from trustescalate.judges.registry import asked_names, needs_exemplars, needs_rows, open_judges
from trustescalate.records import (
    Certificate,
    Channel,
    Decision,
    Item,
    Judgment,
    Overall,
    Probe,
    Run,
    RunHeader,
)
from trustescalate.records.item_fields import value_of, values_of
from trustescalate.records.jsonl import (
    decode,
    digest,
    encode,
    read_rows,
    to_python,
    write_atomically,
    write_rows,
)
from trustescalate.report.document import Report, build, build_calibration
from trustescalate.report.gate import Verdict, decide

if TYPE_CHECKING:
    from trustescalate.cascade.batch_requests import Deferred
from trustescalate.records.progress import Progress

CERTIFICATE = "certificate.json"
CERTIFICATE_VOTES = "certificate.votes.jsonl"
PROBE = "probe.json"
RUNS = "runs"
ROLES = "roles.json"
CACHE = ".trustescalate/cache.sqlite"
BATCHES = ".trustescalate/batches"
LARGEST_EXEMPLAR_SHARE = 0.2
NEVER_STALE = {
    *("price", "api_key_env", "concurrency", "timeout", "attempts", "give_up_after", "batch_discount"),
    *("attn_implementation", "batch_size", "device", "prefix_mib"),
    *("requests_per_minute", "tokens_per_minute"),
}
"""What may change in a judge's table: how it is reached and paid, not what it says."""
RECORDED_PACKAGES = ("numpy", "openai", "scipy", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Split:
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
        said = [f"{role + ':':<12} {len(ids):,}" for role, ids in self.roles.items()]
        if not self.named:
            said.append(f"put this into the configuration: [roles] file = {json.dumps(Path(self.file).name)}")
        return said


@dataclass
class Project:
    """A configuration file and everything that lies beside it.

    >>> project = Project.open(Path("calibration_sets/demo/trustescalate.toml"))
    >>> [judge.name for judge in project.config.judges]
    ['simulated-XS', 'simulated-S', 'simulated-M']
    """

    config: Config
    notice: Callable[[str], None] = field(default=lambda _: None)
    progress: Callable[[Progress], None] = field(default=lambda _: None)
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    token: Callable[[], str] = field(default=lambda: secrets.token_hex(3))
    functions: Mapping[str, Function] = field(default_factory=dict)
    """For judges with backend = "callable", by name: called in place of what their table names."""

    @classmethod
    def open(cls, path: Path, **callbacks: Any) -> "Project":
        """Read a configuration file. Raises ConfigError that names every wrong key."""
        return cls(load_config(path), **callbacks)

    # ── calibrate ──

    async def calibrate(
        self, budget: BudgetTable | None = None, *, batch: bool = False, finish_live: bool = False
    ) -> Certificate:
        """Judge the certification rows with every judge and test the promise; write what came of it.

        Replaces certificate.json, also by a refusal: an old certificate never outlives a failed renewal.
        The test is written to the ledger before its outcome is known, and spends the share of delta that is
        due to it after all earlier tests of these labels. With the claim "batch", first draws the rows that
        people label, and judges the batch. With planned looks, makes the one that is due. `batch` has the
        answers of judges with backend = "openai" made by their Batch API, within a day each time and cheaper;
        `finish_live` asks at once what the first batch leaves unanswered.
        Raises DataError, ConfigError, ProviderError or BudgetReached, NotMeasurable where rows that were
        drawn have no label yet, there are too few for the first look, or labels may not be tested again, and
        CertificateMismatch where something was changed after a look or the ledger is not the certificate's;
        then nothing is replaced.
        """
        data = load_dataset(self.config)
        drawn = self.draw(data)
        if drawn is not None and batch:
            raise UsageError(
                'claim = "batch" decides tier by tier what to ask, so no Batch API can be asked ahead',
                "leave out --batch",
            )
        if drawn is not None:
            must_be_labelled(drawn, data, self.config.folder)
        if not data.annotations:
            raise DataError(
                [f"{self.config.path(self.config.data.annotations)}: no human labels"],
                "calibration needs some",
            )
        self._must_be_people(data)
        if drawn is None:
            must_be_clusters(self.config, data)
        selected = self.select(data)
        self._must_be_due(selected)
        roles, by_id = selected.roles, {item.id: item for item in data.items}
        region = None if drawn is not None else applied_region(self.config, data)
        certify = (*roles["certify"], *roles.get("region", ()))
        ledger = self._testable(certify)
        labels = labels_of([by_id[item_id] for item_id in certify], data.annotations)
        fitted = roles["dev"] if self.config.asks_dev else ()
        self._must_fit(data, roles)
        judged_for = () if selected.region is None else selected.region.candidates
        wanted = dict.fromkeys(
            (*roles["certify"], *roles.get("region", ()), *roles["pilot"], *fitted, *judged_for)
        )
        asked = [by_id[item_id] for item_id in wanted]
        total = len(asked) if drawn is None else drawn.size * len(self.config.judges)
        exemplars, rows = self.exemplars(data, roles["exemplars"]), self.fitting_rows(data, roles)
        limits = budget or self.config.budget
        panel = self._panel(exemplars, limits, rows=rows, batch=batch, finish_live=finish_live)
        async with panel as (judges, spent, deferred):
            protocol = self.protocol(selected, judges, data, grouped=any(item.group for item in asked))
            attempts = self.config.guarantee.attempts
            due_attempt(ledger, protocol, labels, data.annotations, attempts)
            if region is not None:
                must_follow_region(region, protocol)
            judged: dict[str, dict[str, Judgment]] = {judge.name: {} for judge in judges}

            def collect(judgment: Judgment) -> None:
                judged[judgment.judge][judgment.item_id] = judgment
                done = len(judged[judges[-1].name]) if drawn is None else sum(map(len, judged.values()))
                self.progress(Progress("calibrating", done, total, 0, 0, spent.spent, spent.calls))

            if deferred is not None:
                await deferred.judgments(asked, judges, self.in_flight)
            if drawn is None:
                await collect_judgments(asked, judges, collect=collect, in_flight=self.in_flight)
            else:
                await judge_batch(
                    protocol,
                    data.annotations,
                    by_id,
                    judges,
                    judged=judged,
                    collect=collect,
                    in_flight=self.in_flight,
                )
        ledger, attempt = enter_test(ledger, protocol, labels, data.annotations, attempts, judged)
        certificate = calibrate(
            replace(protocol, attempt=replace(attempt, ledger="")),
            data.annotations,
            judged,
            created=self._now(),
            batch_digest="" if drawn is None else drawn.batch,
            items=by_id,
        )
        enter_outcome(ledger, attempt, certificate.status)
        certificate = replace(certificate, attempt=attempt)
        self._write_certificate(certificate, judged)
        return certificate

    def _must_be_due(self, selected: Selection) -> None:
        """Raise NotMeasurable where there are too few rows for the first look."""
        if selected.missing:
            sizes = self.config.guarantee.looks or ()
            raise NotMeasurable(
                f"the first look takes {sizes[0]:,} rows to certify with, {selected.missing:,} more than "
                "there are",
                f"label at least {selected.missing:,} more rows, and calibrate again; no judge was asked",
            )

    def _testable(self, certify: Sequence[str]) -> Ledger:
        """The ledger, where it leaves any rows to certify with. Raises NotMeasurable where it does not."""
        ledger = self.ledger(certify)
        if not certify and ledger.chosen_by:
            raise NotMeasurable(
                "labels of every row that could certify were read to choose by "
                f"({', '.join(sorted(set(ledger.chosen_by.values())))})",
                "label more rows: those that were read have the role dev from now on",
            )
        return ledger

    def ledger(self, certify: Iterable[str] = ()) -> Ledger:
        """The ledger. Raises CertificateMismatch where it is not the one of the certificate in place."""
        ledger = read_ledger(self.config.folder)
        with suppress(NoCertificate, DataError):  # nothing to hold it against, or nothing that can be read
            must_hold(ledger, self.certificate(), certify)
        return ledger

    def read_to_choose(self, command: str, item_ids: Iterable[str]) -> None:
        """Write to the ledger that a command reads the labels of these items to choose by.

        They certify nothing afterwards, but the tests that were made of them may be repeated as they were.
        Raises CertificateMismatch where the ledger is not the certificate's.
        """
        data, wanted = load_dataset(self.config), set(item_ids)
        ledger = self.ledger()
        items = [item for item in data.items if item.id in wanted and item.id in data.annotated]
        enter_choice(ledger, command, labels_of(items, data.annotations))

    def roles(self, data: Dataset) -> Mapping[str, tuple[str, ...]]:
        """Item ids by role. No label is looked at: only which items have any, in a batch not even that."""
        return self.select(data).roles

    def select(self, data: Dataset) -> Selection:
        """As `roles`, with how the rows to certify with came about: groups, weights, looks."""
        drawn = self.draw(data)
        if drawn is not None:
            return Selection(self._batch_roles(drawn, data))
        wanted = self._exemplars_wanted(len(data.labelled))
        past, region = read_ledger(self.config.folder), applied_region(self.config, data)
        return select(self.config, data, wanted, past, region)

    def split(self) -> Split:
        """Draw the roles of the labelled rows, and write them where [roles] file says, or to roles.json.

        From then on rows that come or go change no other row's role. Raises UsageError if the file is there.
        """
        given, data = self.config.roles, load_dataset(self.config)
        if self.config.guarantee.claim == "batch":
            raise UsageError('claim = "batch" draws its rows itself', "there is nothing to split")
        path = self.config.path(given.file or ROLES)
        if path.exists():
            raise UsageError(
                f"{path} is there already", "roles that were drawn stay; remove the file to draw anew"
            )
        labelled = data.labelled
        drawn = assign_roles(labelled, given, self._exemplars_wanted(len(labelled)))
        roles = {
            role: tuple(item.id for item in labelled if drawn[item.id] == role) for role in get_args(Role)
        }
        write_atomically(path, json.dumps(roles, indent=1, ensure_ascii=False).encode() + b"\n")
        return Split(str(path), given.seed, roles, named=given.file is not None)

    def draw(self, data: Dataset) -> Draw | None:
        """The rows that people label, with the claim "batch"; else None."""
        label, given = self.config.guarantee.label, self.config.roles
        if label is None:
            return None
        wanted = self._exemplars_wanted(label) if given.exemplars is None else given.exemplars
        return draw_rows(data.items, label, wanted, given.dev, given.seed)

    def _batch_roles(self, drawn: Draw, data: Dataset) -> Mapping[str, tuple[str, ...]]:
        batch = [item for item in data.items if item.id not in {*drawn.exemplars, *drawn.dev}]
        certify, seed = set(drawn.certify), self.config.roles.seed

        def first(item: Item) -> str:
            return lot(seed, item)

        return {
            "exemplars": drawn.exemplars,
            "dev": drawn.dev,
            "holdout": (),
            "certify": drawn.certify,
            "undrawn": tuple(item.id for item in batch if item.id not in certify),
            "pilot": tuple(item.id for item in sorted(batch, key=first)[: self.config.guarantee.pilot]),
        }

    def certificate(self) -> Certificate:
        """The certificate in place, which may be a refusal. Raises NoCertificate when there is none."""
        path = self.config.folder / CERTIFICATE
        try:
            certificate = decode(path.read_bytes(), Certificate)
        except FileNotFoundError:
            raise NoCertificate(
                f"{path}: there is no certificate yet", "`trustescalate calibrate` makes one"
            ) from None
        except ValueError as error:
            raise DataError([f"{path}: {error}"], "calibrate again") from None
        if certificate.schema != CERTIFICATE_SCHEMA:
            raise NoCertificate(f"{path}: a certificate of another schema", "calibrate again")
        return certificate

    # ── run ──

    async def run(
        self,
        *,
        items: Path | None = None,
        resume: str | None = None,
        budget: BudgetTable | None = None,
        fresh: bool = False,
        batch: bool = False,
        finish_live: bool = False,
        command: Sequence[str] = ("trustescalate", "run"),
    ) -> Run:
        """Send items through the cascade and record what happens.

        Judges `items`, or the items of [data] that nobody labelled, with those of the role holdout. With the
        claim "batch", releases the verdicts on the batch that was certified, and asks nobody; with the claim
        "expected", asks every judge about every item, and decides in the end. With `resume`, goes on with a
        run, by id or "latest". `fresh` asks again what was answered before, to see how the judges answer
        today. `batch` and `finish_live` are as for `calibrate`: each tier is a batch, of the items that the
        tiers before it did not decide. Raises NoCertificate or CertificateMismatch before anything is asked,
        BudgetReached or ProviderError after everything that was answered is recorded.
        """
        if resume and items:
            raise UsageError("a run that is resumed has its items already", "leave out --items or --resume")
        if batch and fresh:
            raise UsageError("a batch is answered into the cache", "leave out --fresh or --batch")
        data = load_dataset(self.config)
        folder = self._run_folder(resume) if resume else None
        certificate = folder.header.certificate if folder else self.certificate()
        self._must_be_asked_for(certificate)
        exemplars = self.exemplars(data, certificate.roles["exemplars"])
        rows = self.fitting_rows(data, certificate.roles)
        channels: dict[str, Channel] = {seal.judge: seal.channel for seal in certificate.judges}
        limits = budget or self.config.budget
        panel = self._panel(
            exemplars, limits, channels, rows=rows, fresh=fresh, batch=batch, finish_live=finish_live
        )
        async with panel as (judges, spent, deferred):
            cascade = self._trusted(certificate, judges)
            if folder is None:
                folder = self._new_run(certificate, self._to_judge(data, certificate, items), command)
            with folder.writer() as writer:
                run = self._loaded(folder, data)
                tally = _Tally(self.progress, spent, run)
                todo = [item for item in run.items if item.id not in tally.known]
                folder.finish("running")
                for decision in labelled_by_people(certificate, data.annotations, todo):
                    writer.record((), decision)
                    tally.add(decision)
                todo = [item for item in todo if item.id not in tally.known]

                def record_row(judgments: Sequence[Judgment], decision: Decision) -> None:
                    writer.record(judgments, decision)
                    tally.add(decision)

                try:
                    if cascade is None:
                        ahead = partial(self._ahead, deferred, judges)
                        known, size = data.items, self.in_flight
                        recorder = Recorder(folder, writer, tally.judged)
                        await judge_then_decide(run, judges, known, recorder, ahead=ahead, in_flight=size)
                    else:
                        if deferred is not None:
                            await deferred.cascade(todo, cascade, self.in_flight)
                        await run_cascade(todo, cascade, record=record_row, in_flight=self.in_flight)
                except BudgetReached:
                    folder.finish("budget")
                    raise
                except BaseException:
                    folder.finish("stopped")
                    raise
                folder.finish("complete")
        return self._with_evidence(self._loaded(folder, data), data)

    def load_run(self, run_id: str | None = None) -> Run:
        """A recorded run, the latest one by default, with the human labels that its items have by now."""
        data = load_dataset(self.config)
        return self._with_evidence(self._loaded(self._run_folder(run_id or "latest"), data), data)

    def run_path(self, run_id: str) -> Path:
        """Where a run lies."""
        return self.config.folder / RUNS / run_id

    def run_ids(self) -> list[str]:
        """All runs, oldest first."""
        found = [path.parent for path in (self.config.folder / RUNS).glob("*/run.json")]
        return [path.name for path in sorted(found, key=_age)]

    # ── report and gate ──

    def report(self, run_id: str | None = None) -> tuple[Report, Path]:
        """Turn a run, or the certificate where nothing was run, into report.html, .md and .json."""
        from trustescalate.report.html import render_html
        from trustescalate.report.machine import render_json
        from trustescalate.report.markdown import render_markdown

        if run_id is None and not self.run_ids():
            report, folder = build_calibration(self.certificate(), self.probe()), self.config.folder
        else:
            run = self.load_run(run_id)
            report, folder = build(run, self.probe()), self.run_path(run.header.id)
        for name, render in (("html", render_html), ("md", render_markdown), ("json", render_json)):
            write_atomically(folder / f"report.{name}", render(report).encode())
        return report, folder / "report.html"

    def probe(self) -> Probe | None:
        """What `trustescalate probe` found; None where it was not run. Raises DataError for a bad file."""
        path = self.config.folder / PROBE
        try:
            return decode(path.read_bytes(), Probe)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataError([f"{path}: {error}"], "probe again, or remove the file") from None

    def gate(self, run_id: str | None = None) -> tuple[Verdict, Path]:
        """Hold a run against [gate]; write decision.json and junit.xml beside it."""
        from trustescalate.report.junit import render_junit

        run = self.load_run(run_id)
        verdict = decide(build(run), self.config.gate, stale=self._stale(run))
        folder = self.run_path(run.header.id)
        write_atomically(folder / "decision.json", encode(verdict) + b"\n")
        checks = [(check.name, check.status, check.message) for check in verdict.checks]
        write_atomically(folder / "junit.xml", render_junit("trustescalate gate", checks).encode())
        return verdict, folder / "decision.json"

    # ── parts ──

    def _must_be_people(self, data: Dataset) -> None:
        """A certificate says that people agree; labels that models made cannot bear it out."""
        named = () if self.config.data.labels_by == "people" else model_labels(data.annotations)
        if named:
            path = self.config.path(self.config.data.annotations)
            raise DataError(
                [f"{path}: all labels are by {', '.join(map(repr, named[:3]))}, named like a model"],
                'a certificate is about people; if they are people, say so: [data] labels_by = "people"',
            )

    def _stale(self, run: Run) -> str:
        try:
            if self.certificate() != run.header.certificate:
                what = "calibration" if run.header.certificate.status == "expected" else "certificate"
                return f"the {what} was renewed after this run"
        except NoCertificate as error:
            return error.message
        recorded, now = _lasting(run.header.config), _lasting(self._recorded_config())
        changed = [key for key in now if now[key] != recorded.get(key)]
        return f"[{changed[0]}] was changed after this run" if changed else ""

    def _exemplars_wanted(self, labelled: int) -> int:
        if not needs_exemplars(self.config):
            return 0
        shots = self.config.ensemble.shots
        most = max(shots, int(LARGEST_EXEMPLAR_SHARE * labelled))
        return min(self.config.ensemble.members * shots, most)

    def exemplars(self, data: Dataset, ids: Sequence[str]) -> Sequence[Sequence[Exemplar]]:
        """What each member of an ensemble is shown, of the labelled items with these ids."""
        if not needs_exemplars(self.config):
            return ((),) * self.config.ensemble.members
        wanted = set(ids)
        return exemplar_sets(
            self.config.task.task(),
            [item for item in data.items if item.id in wanted],
            [note for note in data.annotations if note.item_id in wanted],
            self.config.ensemble.members,
            self.config.ensemble.shots,
            self.config.roles.seed,
        )

    def fitting_rows(self, data: Dataset, roles: Mapping[str, Sequence[str]]) -> Sequence[Exemplar]:
        """What classical judges are fitted on: the rows in the roles exemplars and dev with a majority."""
        if not needs_rows(self.config):
            return ()
        wanted = {*roles["exemplars"], *roles["dev"]}
        notes = [note for note in data.annotations if note.item_id in wanted]
        truth = majority(self.config.task.task(), notes)
        return [Exemplar(item, label) for item in data.items if (label := truth.get(item.id)) is not None]

    def protocol(
        self, selected: Selection, judges: Sequence[Judge], data: Dataset, *, grouped: bool
    ) -> Protocol:
        """Everything that is decided before a label of a certification row is read."""
        promise = self.config.guarantee
        certify = set(selected.roles["certify"])
        rows = [item for item in data.items if item.id in certify]
        return Protocol(
            task=self.config.task.task(),
            alpha=promise.alpha,
            delta=promise.delta,
            claim=promise.claim,
            path=promise.path,
            procedure=promise.procedure,
            prefer=promise.prefer,
            abstention_price=promise.abstention_price,
            estimator=self.config.ensemble.estimator,
            judges=tuple((judge.name, judge.fingerprint) for judge in judges),
            roles=selected.roles,
            grouped=grouped,
            seed=self.config.roles.seed,
            version=__version__,
            groups=self._group_rule(rows),
            leave_out=self._leave_out(rows),
            against=promise.against,
            clusters=selected.clusters,
            look=selected.look,
            weighting=selected.weighting,
            humans_replace=promise.humans_replace,
            recalibrate=self.config.ensemble.recalibrate,
            learn_from=self.config.ensemble.learn_from,
            drawn_from=selected.drawn_from,
            region=selected.region,
        )

    def _group_rule(self, rows: Sequence[Item]) -> GroupRule | None:
        given = self.config.groups
        if given.by is None:
            return None
        values = values_of(rows, given.by)
        return GroupRule(given.by, values, given.alpha, given.weights, given.enough, given.fewest)

    def _leave_out(self, rows: Sequence[Item]) -> LeaveOut | None:
        by = self.config.groups.evidence or self.config.groups.by
        return None if by is None else LeaveOut(by, values_of(rows, by))

    def _must_fit(self, data: Dataset, roles: Mapping[str, Sequence[str]]) -> None:
        """Raise NotMeasurable, before a judge is asked, where too few rows are there to fit scores on."""
        scores = self.config.ensemble
        rows = set(roles["dev"]) | (set(roles["pilot"]) if scores.learn_from == "dearest" else set())
        if scores.learn_from == "people":
            rows &= {item.id for item in data.labelled}
        if scores.fitted and len(rows) < FEWEST:
            raise NotMeasurable(
                f"scores are to be fitted on {len(rows)} rows; {FEWEST} are the fewest, and 50 are better",
                "raise [roles] dev"
                if scores.learn_from == "people"
                else "raise [guarantee] pilot, and bring as many items without labels",
            )

    def _must_be_asked_for(self, certificate: Certificate) -> None:
        promise = self.config.guarantee
        if promise.claim == "expected":
            must_expect(certificate, promise.alpha)
        else:
            must_promise(certificate, promise.claim, promise.alpha, promise.delta)
        must_promise_by(certificate, self.config.groups.by, self.config.groups.alpha)

    def _trusted(self, certificate: Certificate, judges: Sequence[Judge]) -> Cascade | None:
        """The cascade that items go through; None where all judges are asked first, and nobody escalates."""
        scores = self.config.ensemble
        made = (self.config.task.task(), scores.estimator, scores.recalibrate, scores.learn_from)
        if certificate.status == "expected":
            must_fit(certificate, judges, *made)
            return None
        cascade = trusted_cascade(certificate, judges, *made)
        if certificate.batch is None:
            return cascade
        return recorded_cascade(cascade, certificate.batch, self.config.folder / CERTIFICATE_VOTES)

    async def _ahead(
        self, deferred: "Deferred | None", judges: Sequence[Judge], items: Sequence[Item]
    ) -> None:
        if deferred is not None:
            await deferred.judgments(items, judges, self.in_flight)

    def _write_certificate(self, certificate: Certificate, judged: Judged) -> None:
        rows = (rows[item_id] for rows in judged.values() for item_id in sorted(rows))
        write_rows(self.config.folder / CERTIFICATE_VOTES, rows)
        write_atomically(self.config.folder / CERTIFICATE, encode(certificate) + b"\n")

    def _to_judge(self, data: Dataset, certificate: Certificate, path: Path | None) -> tuple[Item, ...]:
        if certificate.batch is not None:
            given = data.items if path is None else load_items(path, self.config)
            return certified_items(certificate, certificate.batch, given)
        if path is not None:
            return load_items(path, self.config)
        holdout = set(certificate.roles["holdout"])
        items = (*data.unlabelled, *(item for item in data.labelled if item.id in holdout))
        if not items:
            raise UsageError(
                "every item in [data] is labelled, so there is nothing to judge", "name a file: --items"
            )
        return items

    def _new_run(self, certificate: Certificate, items: Sequence[Item], command: Sequence[str]) -> RunFolder:
        run_id = f"{self.clock():%Y%m%dT%H%M%SZ}-{self.token()}"
        header = RunHeader(
            schema=SCHEMA,
            id=run_id,
            status="running",
            created=self._now(),
            command=shlex.join(command),
            config=self._recorded_config(),
            certificate=certificate,
            items_digest=_items_digest(items),
            items=len(items),
            versions=_versions(),
        )
        return RunFolder.create(self.run_path(run_id), header, items)

    def _run_folder(self, run_id: str) -> RunFolder:
        """A run by its id, the path of its folder, or "latest"."""
        known = self.run_ids()
        if not known:
            raise NotMeasurable("nothing was run yet", "`trustescalate run` makes a run")
        name = known[-1] if run_id == "latest" else Path(run_id).name
        if name not in known:
            raise UsageError(f"there is no run {run_id!r}", f"the last ones are {', '.join(known[-3:])}")
        return RunFolder.open(self.run_path(name))

    def _loaded(self, folder: RunFolder, data: Dataset) -> Run:
        """A run with people's labels, save on rows that made the certificate or changed their texts since."""
        run = folder.load()
        if _items_digest(run.items) != run.header.items_digest:
            raise DataError([f"{folder.path / 'items.jsonl'}: was changed since"], "start a new run")
        used = _used(run.header.certificate)
        texts = {item.id: (item.prompt, item.responses) for item in run.items if item.id not in used}
        known = {item.id for item in data.items if texts.get(item.id) == (item.prompt, item.responses)}
        return replace(run, annotations=tuple(note for note in data.annotations if note.item_id in known))

    def _with_evidence(self, run: Run, data: Dataset) -> Run:
        """A run with what its items and the certification rows say together; nothing of it is stored.

        A batch was counted: there is no population that it could tell more about.
        """
        certificate = run.header.certificate
        if certificate.batch is not None:
            return run
        free = independent_items(run.items, data.items, _used(certificate), certificate.seed)
        run = replace(run, independent=free)
        judged = self._certificate_votes(certificate)
        if judged is None:
            return replace(
                run, overall=Overall(None, "the votes that the certificate was made from are gone")
            )
        items = {item.id: item for item in (*data.items, *run.items)}
        groups = {item.id: item.group for item in items.values()}
        scorer = Scorer.of(certificate, items)
        by, table = self.config.data.strata, self.config.leaderboard
        strata = None if by is None else {item.id: value_of(item, by) for item in items.values()}
        return replace(
            run,
            overall=overall(run, judged, data.annotations, groups, strata, scorer),
            shift=score_shift(run, judged, groups, scorer),
            standings=standings(run, judged, data.annotations, items, table, strata)
            if table.models
            else None,
        )

    def _certificate_votes(self, certificate: Certificate) -> Judged | None:
        """The votes on the certification rows; None where they are gone, or another certificate's."""
        try:
            if self.certificate() != certificate:
                return None
        except (NoCertificate, DataError):
            return None
        rows, problems = read_rows(self.config.folder / CERTIFICATE_VOTES, Judgment)
        judged: dict[str, dict[str, Judgment]] = {seal.judge: {} for seal in certificate.judges}
        for _, row in rows:
            judged.setdefault(row.judge, {})[row.item_id] = row
        wanted = set(certificate.roles["certify"])
        whole = not problems and all(wanted <= judged[seal.judge].keys() for seal in certificate.judges)
        return judged if whole else None

    def _recorded_config(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")

    @asynccontextmanager
    async def panel(
        self, exemplars: Sequence[Sequence[Exemplar]], limits: BudgetTable, rows: Sequence[Exemplar] = ()
    ) -> AsyncIterator[tuple[list[Judge], Budget]]:
        """The judges with their cache, within limits, and what they spend; closed in the end.

        `rows` are what classical judges are fitted on (`fitting_rows`).
        """
        async with self._panel(exemplars, limits, rows=rows) as (judges, spent, _):
            yield judges, spent

    @property
    def in_flight(self) -> int:
        """How many items are judged at a time."""
        # More than can be asked at once: while some wait for a prefix to be kept, others use their place.
        return max(16, 4 * sum(getattr(judge, "concurrency", 0) for judge in self.config.judges))

    def _now(self) -> str:
        return f"{self.clock():%Y-%m-%dT%H:%M:%SZ}"

    @asynccontextmanager
    async def _panel(
        self,
        exemplars: Sequence[Sequence[Exemplar]],
        limits: BudgetTable,
        channels: Mapping[str, Channel] | None = None,
        *,
        rows: Sequence[Exemplar] = (),
        fresh: bool = False,
        batch: bool = False,
        finish_live: bool = False,
    ) -> AsyncIterator[tuple[list[Judge], Budget, "Deferred | None"]]:
        budget = Budget(limits.usd, limits.calls)
        self._must_have_prices(limits)
        emptied = TemporaryDirectory() if fresh else None
        cache = Cache(Path(emptied.name) / "cache.sqlite" if emptied else self.config.folder / CACHE)
        names = iter(asked_names(self.config))
        deferred = self._deferred(cache, budget, finish_live) if batch else None

        def wrap(ask: Ask, endpoint: str, tariff: Tariff) -> Ask:
            name = next(names)
            live = guard(patient(ask, name), endpoint, tariff.cost, cache, budget)
            (table,) = (table for table in self.config.judges if table.name == name)
            if deferred is None or not isinstance(table, OpenAIJudge):
                return live
            return deferred.ask(table, endpoint, tariff, live)

        backends: list[Backend] = []
        try:
            judges, backends = open_judges(
                self.config,
                exemplars,
                wrap=wrap,
                notice=self.notice,
                channels=channels,
                rows=rows,
                functions=self.functions,
            )
            judges = [self._recalling(judge, cache) for judge in judges]
            if deferred is not None:
                judges = deferred.seated(judges, dict(zip(asked_names(self.config), backends, strict=True)))
            yield judges, budget, deferred
        finally:
            if deferred is not None:
                await deferred.close()
            for backend in backends:
                close = getattr(backend, "close", None)
                if close is not None:
                    await close()
            cache.close()
            if emptied:
                emptied.cleanup()

    def _deferred(self, cache: Cache, budget: Budget, finish_live: bool) -> "Deferred":
        from trustescalate.cascade.batch_requests import Deferred

        if not any(isinstance(table, OpenAIJudge) for table in self.config.judges):
            raise UsageError(
                'no judge with backend = "openai", so none with a Batch API', "leave out --batch"
            )
        folder = self.config.folder / BATCHES
        return Deferred(folder, cache, budget, finish_live=finish_live, notice=self.notice)

    def _recalling(self, judge: Judge, cache: Cache) -> Judge:
        (table,) = (table for table in self.config.judges if table.name == judge.name)
        replayed = table.backend == "replay"
        return judge if replayed else RecallingJudge(judge, cache, table.price.model_dump())

    def _must_have_prices(self, limits: BudgetTable) -> None:
        free = [
            judge.name
            for judge in self.config.judges
            if judge.backend in ("openai", "score") and not any(judge.price.model_dump().values())
        ]
        if limits.usd is not None and free:
            raise ConfigError(f"a budget in USD needs the price of {free[0]!r}", "give the judge a price")


class _Tally:
    """Counts decisions for the progress display; nothing that is recorded depends on it."""

    def __init__(self, progress: Callable[[Progress], None], budget: Budget, run: Run) -> None:
        self._progress = progress
        self._budget = budget
        self._total = len(run.items)
        self._escalated = 0
        self._abstained = 0
        self.known: set[str] = set()
        for decision in run.decisions:
            self.add(decision)

    def judged(self, done: int) -> None:
        """So many items were judged; they are decided later."""
        spent, calls = self._budget.spent, self._budget.calls
        self._progress(Progress("judging", done, self._total, 0, 0, spent, calls))

    def add(self, decision: Decision) -> None:
        self.known.add(decision.item_id)
        self._escalated += len(decision.trail) > 1
        self._abstained += decision.label is None
        done, spent, calls = len(self.known), self._budget.spent, self._budget.calls
        self._progress(Progress("judging", done, self._total, self._escalated, self._abstained, spent, calls))


def _age(folder: Path) -> tuple[str, int]:
    """Ids begin with the second of their start; within one second the clock of the files decides."""
    return folder.name.partition("-")[0], (folder / "items.jsonl").stat().st_mtime_ns


def _used(certificate: Certificate) -> frozenset[str]:
    """The items that a certificate was made from: all that have a role, save the rows held out."""
    return frozenset(
        item_id for role, ids in certificate.roles.items() if role != "holdout" for item_id in ids
    )


def _items_digest(items: Sequence[Item]) -> str:
    return digest([to_python(item) for item in items])


def _lasting(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's figures rest on, of a recorded configuration."""
    kept = {key: value for key, value in config.items() if key not in ("gate", "budget", "leaderboard")}
    data = {key: value for key, value in kept.get("data", {}).items() if key != "strata"}
    judges = [
        {key: value for key, value in judge.items() if key not in NEVER_STALE} for judge in kept["judges"]
    ]
    return {**kept, "data": data, "judges": judges}


def _versions() -> dict[str, str]:
    found = {"trustescalate": __version__, "python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
