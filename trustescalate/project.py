"""Open a project folder, calibrate, run, report and gate."""

import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from trustescalate.analysis.calibration_report import calibration_report
from trustescalate.analysis.injection import read_probe
from trustescalate.analysis.run_estimates import with_estimates
from trustescalate.calibration.attainable import attainable
from trustescalate.calibration.evidence import must_rest_on_evidence
from trustescalate.calibration.files import read_certificate
from trustescalate.calibration.prepare import select_rows
from trustescalate.cascade.basis import what_changed
from trustescalate.cascade.certification import certify
from trustescalate.cascade.decide import CertifiedCascade, open_cascade
from trustescalate.cascade.engines.protocol import Engine
from trustescalate.cascade.merge_shards import merge_shards
from trustescalate.cascade.panel import Asking
from trustescalate.cascade.run import run_items
from trustescalate.cascade.run_folder import (
    RunFolder,
    find_attempted,
    find_run,
    must_be_whole,
    run_ids,
    run_path,
    with_labels,
)
from trustescalate.config import BudgetTable, Config, load_config, must_stay_inside, parse_config
from trustescalate.config.override import command_options
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.data.record_rows import records_of
from trustescalate.errors import NoCertificate, UsageError
from trustescalate.judges.replay import ReplayJudge
from trustescalate.records import Annotation, Certificate, Item, Run
from trustescalate.records.jsonl import encode, write_atomically, write_rows
from trustescalate.records.progress import Hooks
from trustescalate.report.attainable import attainable_section, completed
from trustescalate.report.document import Report, build
from trustescalate.report.follow import with_next
from trustescalate.report.gate import Verdict, decide
from trustescalate.report.gate_basis import certificate_age, describe_run, why_stale, with_baseline
from trustescalate.report.release import with_release
from trustescalate.report.sections import Section


@dataclass
class Project:
    """A configuration with the data, certificate and runs in its folder.

    >>> project = Project.open(Path("calibration_sets/demo/trustescalate.toml"))
    >>> [judge.name for judge in project.config.judges]
    ['simulated-XS', 'simulated-S', 'simulated-M']
    """

    config: Config
    hooks: Hooks = field(default_factory=Hooks)
    options: tuple[str, ...] | None = None  # that name the file on a command line; None without a file

    @classmethod
    def open(cls, path: Path, hooks: Hooks | None = None, *, overrides: Sequence[str] = ()) -> "Project":
        """Read a configuration file, with `overrides` such as "guarantee.alpha=0.2".

        Raises ConfigError with every wrong key, and UsageError where a file of earlier commands is a link
        out of the folder. The caller trusts what the file names (`needs_trust`).
        """
        config = load_config(path, overrides)
        must_stay_inside(config.folder)
        return cls(config, hooks or Hooks(), command_options(path, overrides))

    @classmethod
    def from_records(
        cls,
        items: Iterable[Item | Mapping[str, Any]],
        annotations: Iterable[Annotation | Mapping[str, Any]],
        config: Mapping[str, Any],
        *,
        judges: Sequence[ReplayJudge] = (),
        folder: Path | None = None,
        hooks: Hooks | None = None,
    ) -> "Project":
        """Write records, or the rows of a `datasets.Dataset`, into a folder and open it as a project.

        `config` holds the tables of trustescalate.toml, except the file names of [data]. `judges` are
        replayed, before those of `config`. Without `folder`, a temporary one is removed together with the
        project. Raises ConfigError with every wrong key, and DataError with every record that does not fit
        the task.

        >>> items = [Item(f"q{n}", "Name an even number.", (str(n),)) for n in range(4)]
        >>> labels = {item.id: "fail" if int(item.responses[0]) % 2 else "pass" for item in items}
        >>> project = Project.from_records(
        ...     items,
        ...     [Annotation(item_id, "ann", label) for item_id, label in labels.items()],
        ...     {"task": {"kind": "binary", "question": "Is the response right?"}},
        ...     judges=[ReplayJudge.from_labels(labels, name="small")],
        ... )
        >>> [judge.name for judge in project.config.judges]
        ['small']
        """
        home = Path(mkdtemp(prefix="trustescalate-")) if folder is None else folder
        try:
            tables = []
            for number, judge in enumerate(judges, 1):
                votes = f"votes-{number}.jsonl"
                write_rows(home / votes, judge.judgments)
                tables.append({"name": judge.name, "backend": "replay", "votes": votes})
            files = {"items": "items.jsonl", "annotations": "annotations.jsonl"}
            write_rows(home / files["items"], records_of(items, Item, "items"))
            write_rows(home / files["annotations"], records_of(annotations, Annotation, "annotations"))
            given = {"version": 1, **config, "data": {**config.get("data", {}), **files}}
            given["judges"] = [*tables, *config.get("judges", ())]
            project = cls(parse_config(given, home / "trustescalate.toml"), hooks or Hooks())
            load_dataset(project.config)
        except BaseException:
            if folder is None:
                rmtree(home, ignore_errors=True)
            raise
        if folder is None:
            weakref.finalize(project, rmtree, home, ignore_errors=True)
        return project

    async def calibrate(
        self,
        budget: BudgetTable | None = None,
        *,
        batch: bool = False,
        finish_live: bool = False,
        engine: Engine | None = None,
    ) -> Certificate:
        """Judge the calibration set with every judge, test every policy, and write the certificate.

        Replaces certificate.json, also by "no certificate": no earlier certificate outlives a failed renewal,
        unless only votes differ that had failed before: then the earlier one stands. The ledger records the
        test before its result is known; the test spends the share of delta due after all earlier tests of
        these labels. With the claim "batch", draws the rows to annotate first, then judges the batch. With
        planned interim analyses, runs the one that is due. `batch` uses the Batch API of judges with backend
        = "openai": cheaper, answers within a day; `finish_live` sends requests that two batches leave
        unanswered to the live API. `engine_of("ray")` reaches models by Ray.

        Raises DataError, ConfigError, ProviderError or BudgetReached; NotMeasurable if drawn rows have no
        label yet, rows are too few, a judge gives no usable vote, or labels may not be tested again;
        CertificateMismatch after a change. Then nothing is replaced.
        """
        return await certify(self.config, self.hooks, Asking(budget, True, batch, finish_live, engine))

    async def run(
        self,
        *,
        items: Path | None = None,
        resume: str | None = None,
        shard: str | None = None,
        budget: BudgetTable | None = None,
        use_cache: bool = True,
        batch: bool = False,
        finish_live: bool = False,
        engine: Engine | None = None,
        uncertified: bool = False,
        thresholds: Mapping[str, float] | None = None,
        command: Sequence[str] = ("trustescalate", "run"),
    ) -> Run:
        """Send items through the certified cascade and record every vote and decision.

        Judges `items`, or the unlabelled items of [data] with those of the role holdout. With the claim
        "batch", releases the certified verdicts without a model call; with the claim "expected", every judge
        judges every item before any decision. `resume` continues a run, by id or "latest". `shard="2/4"`
        judges that part of the items. `use_cache=False` calls the judges again. `batch`, `finish_live` and
        `engine` are as for `calibrate`; each tier is one batch.

        `uncertified` needs no certificate and uses none: every judge judges every item of [data] that is no
        few-shot example, or an item goes to the next judge until a score reaches that judge's `thresholds`.
        Nothing is released; `Run.verdict` is that of the last judge asked. Raises NoCertificate or
        CertificateMismatch before any model call, BudgetReached or ProviderError after recording all answers.
        """
        asking = Asking(budget, use_cache, batch, finish_live, engine)
        if thresholds and not uncertified:
            raise UsageError("thresholds are for an uncertified run", "add uncertified=True")
        given = (thresholds or {}) if uncertified else None
        where = (self.config, self.hooks, asking)
        judged = run_items(*where, items=items, resume=resume, shard=shard, thresholds=given, command=command)
        return with_estimates(self.config, *await judged)

    def merge(self, runs: Sequence[str], *, command: Sequence[str] = ("trustescalate", "merge")) -> Run:
        """Make one run of all its shards, by id or folder. Raises UsageError for others (`merge_shards`)."""
        return with_estimates(self.config, *merge_shards(self.config, self.hooks, runs, command=command))

    @asynccontextmanager
    async def cascade(
        self, budget: BudgetTable | None = None, *, use_cache: bool = True
    ) -> AsyncIterator[CertifiedCascade]:
        """Open the certified cascade, to judge single items inside another program.

        Decides as `run` does. Raises UsageError for a claim about a whole batch or run.
        """
        async with open_cascade(self.config, self.hooks, Asking(budget, use_cache=use_cache)) as cascade:
            yield cascade

    def certificate(self) -> Certificate:
        """Read the certificate, which may state "no certificate". Raises NoCertificate without a file."""
        return read_certificate(self.config.folder)

    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """Return the item ids of each role; they depend on which items have labels, never on the labels."""
        return select_rows(self.config, load_dataset(self.config)).roles

    def run_ids(self) -> list[str]:
        """Return the ids of all runs, oldest first."""
        return run_ids(self.config.folder)

    def run_path(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return run_path(self.config.folder, run_id)

    def load_run(self, run_id: str | None = None) -> Run:
        """Load a run, by default the latest, with human labels of its items and estimates from them."""
        data = load_dataset(self.config)
        return self._load(find_run(self.config.folder, "latest" if run_id is None else run_id), data)

    def _load(self, folder: RunFolder, data: Dataset, baseline: str | None = None) -> Run:
        must_be_whole(folder.header)
        must_rest_on_evidence(self.config, data, folder.header.certificate)
        return with_estimates(self.config, with_labels(folder, data), data, baseline)

    def report(
        self, run_id: str | None = None, more: Callable[[Certificate], Sequence[Section]] = lambda _: ()
    ) -> tuple[Report, Path]:
        """Write report.html, .md and .json of a run, by default the latest, or else of the certificate.

        Of a run also report.items.jsonl, a line for each item.
        `more` makes further sections from the certificate; they precede the last section, the provenance.
        """
        from trustescalate.report.files import write_report

        with suppress(NoCertificate):  # a run has its own; one in place that does not follow ends all
            self.certificate()
        data = load_dataset(self.config)
        if run_id is None and not self.run_ids():
            certificate, folder = self.certificate(), self.config.folder
            must_rest_on_evidence(self.config, data, certificate)
            report = calibration_report(self.config, data, certificate, self.options).report
            *first, provenance = report.sections
            report = replace(report, sections=(*first, *more(certificate), provenance))
        else:
            run = self._load(find_run(self.config.folder, "latest" if run_id is None else run_id), data)
            folder, report = self.run_path(run.header.id), build(run, read_probe(self.config.folder))
            verdict, sections = self._decide(run, data, report), more(run.header.certificate)
            report = self._finish(run, data, report, verdict, sections)
        return report, write_report(folder, report)

    def gate(self, run_id: str | None = None, *, baseline: str | None = None) -> tuple[Verdict, Path]:
        """Test a run against [gate]; write decision.json, junit.xml and its report into its folder.

        By default the run of the last attempt to run. `baseline` replaces that of [gate]: the id of a run, or
        the folder of one. Raises NotMeasurable if the last attempt left no run, and UsageError for a baseline
        that is unknown, or without max_drop or min_gain.
        """
        from trustescalate.report.files import write_report
        from trustescalate.report.junit import render_junit

        project = replace(self, config=with_baseline(self.config, baseline))
        config, data, home = project.config, load_dataset(self.config), self.config.folder
        judged = find_attempted(home) if run_id is None else find_run(home, run_id)
        run = project._load(judged, data, config.gate.baseline)
        report, mark = build(run, read_probe(home)), run.header.certificate.digest
        verdict = project._decide(run, data, report)
        folder = self.run_path(run.header.id)
        write_atomically(folder / "decision.json", encode(verdict) + b"\n")
        checks = [(check.name, check.status, check.message) for check in verdict.checks]
        write_atomically(
            folder / "junit.xml", render_junit("trustescalate gate", checks, {"certificate": mark}).encode()
        )
        write_report(folder, project._finish(run, data, report, verdict))
        return verdict, folder / "decision.json"

    def _finish(
        self, run: Run, data: Dataset, report: Report, verdict: Verdict, more: Sequence[Section] = ()
    ) -> Report:
        """The report of a run with the gate's verdict, `more` sections and the next commands."""
        certificate = run.header.certificate
        seen = attainable(self.config, data, certificate)
        had = () if seen is None else (attainable_section(seen, certificate, completed(self.options or ())),)
        report = with_release(report, verdict, self.config.gate)
        *first, provenance = report.sections
        return with_next(replace(report, sections=(*first, *had, *more, provenance)), self.options, run)

    def _decide(self, run: Run, data: Dataset, report: Report) -> Verdict:
        config, now = self.config, self.hooks.clock()
        verdict = decide(
            report,
            config.gate,
            stale=why_stale(config, run, what_changed(config, data, run)),
            run=describe_run(run, now),
            certificate_age=certificate_age(run, now),
        )
        return replace(verdict, certificate=run.header.certificate.digest)
