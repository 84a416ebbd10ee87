"""A project folder: open it, calibrate, run, report, gate."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trustescalate.analysis.injection import read_probe
from trustescalate.analysis.run_estimates import with_estimates
from trustescalate.calibration.files import read_certificate
from trustescalate.calibration.prepare import select_rows
from trustescalate.cascade.certification import certify
from trustescalate.cascade.decide import CertifiedCascade, open_cascade
from trustescalate.cascade.panel import Asking
from trustescalate.cascade.run import run_items
from trustescalate.cascade.run_folder import find_run, run_ids, run_path, with_labels
from trustescalate.config import BudgetTable, Config, load_config, parse_config
from trustescalate.data.dataset import load_dataset
from trustescalate.judges.replay import ReplayJudge
from trustescalate.records import Annotation, Certificate, Item, Run
from trustescalate.records.jsonl import encode, write_atomically, write_rows
from trustescalate.records.progress import Hooks
from trustescalate.report.document import Report, build, build_calibration
from trustescalate.report.gate import Verdict, decide, why_stale
from trustescalate.report.sections import Section


@dataclass
class Project:
    """A configuration file and everything that lies beside it.

    >>> project = Project.open(Path("calibration_sets/demo/trustescalate.toml"))
    >>> [judge.name for judge in project.config.judges]
    ['simulated-XS', 'simulated-S', 'simulated-M']
    """

    config: Config
    hooks: Hooks = field(default_factory=Hooks)
    _kept: TemporaryDirectory[str] | None = field(default=None, repr=False)

    @classmethod
    def open(cls, path: Path, hooks: Hooks | None = None, *, overrides: Sequence[str] = ()) -> "Project":
        """Read a configuration file, with `overrides` such as "guarantee.alpha=0.2".

        Raises ConfigError that names every wrong key.
        """
        return cls(load_config(path, overrides), hooks or Hooks())

    @classmethod
    def from_records(
        cls,
        items: Iterable[Item],
        annotations: Iterable[Annotation],
        config: Mapping[str, Any],
        *,
        judges: Sequence[ReplayJudge] = (),
        folder: Path | None = None,
        hooks: Hooks | None = None,
    ) -> "Project":
        """A project from records in memory. `config` holds what a trustescalate.toml would, without [data].

        `judges` are replayed, before those of `config`. Everything lies in `folder`, by default a temporary
        one that goes when the project does. Raises ConfigError that names every wrong key, and DataError with
        every record that does not fit.

        >>> items = [Item(f"q{n}", "Is it even?", (str(n),)) for n in range(4)]
        >>> labels = {item.id: "yes" if int(item.responses[0]) % 2 == 0 else "no" for item in items}
        >>> project = Project.from_records(
        ...     items,
        ...     [Annotation(item_id, "ann", label) for item_id, label in labels.items()],
        ...     {"task": {"kind": "binary", "question": "Is the answer right?"}},
        ...     judges=[ReplayJudge.from_labels(labels, name="small")],
        ... )
        >>> [judge.name for judge in project.config.judges]
        ['small']
        """
        kept = TemporaryDirectory(prefix="trustescalate-") if folder is None else None
        home = Path(kept.name) if kept is not None else Path(folder or "")
        names = {"items": "items.jsonl", "annotations": "annotations.jsonl"}
        tables = []
        for place, judge in enumerate(judges, 1):
            votes = f"votes-{place}.jsonl"
            write_rows(home / votes, judge.judgments)
            tables.append({"name": judge.name, "backend": "replay", "votes": votes})
        write_rows(home / names["items"], items)
        write_rows(home / names["annotations"], annotations)
        given = {**config, "data": {**config.get("data", {}), **names}}
        given = {"version": 1, **given, "judges": [*tables, *config.get("judges", ())]}
        project = cls(parse_config(given, home / "trustescalate.toml"), hooks or Hooks(), kept)
        load_dataset(project.config)
        return project

    async def calibrate(
        self, budget: BudgetTable | None = None, *, batch: bool = False, finish_live: bool = False
    ) -> Certificate:
        """Judge the calibration set with every judge and test every policy; write the certificate.

        Replaces certificate.json, also by "no certificate": an old one never outlives a failed renewal. The
        test is written to the ledger before its outcome is known, and spends the share of delta that is due
        to it after all earlier tests of these labels. With the claim "batch", first draws the rows that
        annotators label, and judges the batch. With planned interim analyses, makes the one that is due.
        `batch` has the answers of judges with backend = "openai" made by their Batch API, within a day each
        time and cheaper; `finish_live` sends what the first batch leaves unanswered to the live API.
        Raises DataError, ConfigError, ProviderError or BudgetReached, NotMeasurable where rows that were
        drawn have no label yet, there are too few for the first analysis, or labels may not be tested again,
        and CertificateMismatch where something was changed after an interim analysis or the ledger is not the
        certificate's; then nothing is replaced.
        """
        return await certify(self.config, self.hooks, Asking(budget, batch=batch, finish_live=finish_live))

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
        claim "batch", releases the verdicts on the batch that was certified, without a model call; with the
        claim "expected", asks every judge about every item, and decides in the end. With `resume`, goes on
        with a run, by id or "latest". `fresh` asks again what was answered before, to see how the judges
        answer today. `batch` and `finish_live` are as for `calibrate`: each tier is a batch, of the items
        that the tiers before it did not decide. Raises NoCertificate or CertificateMismatch before any model
        call, BudgetReached or ProviderError after everything that was answered is recorded.
        """
        asking = Asking(budget, use_cache=not fresh, batch=batch, finish_live=finish_live)
        run = await run_items(self.config, self.hooks, asking, items=items, resume=resume, command=command)
        return with_estimates(self.config, run, load_dataset(self.config))

    def cascade(
        self, budget: BudgetTable | None = None, *, fresh: bool = False
    ) -> AbstractAsyncContextManager[CertifiedCascade]:
        """The certified cascade, opened to judge items one at a time inside another program.

        `async with project.cascade() as cascade: decision = await cascade.decide(item)`. The checks, cache,
        budget and decisions are those of `run`, which says what is raised.
        """
        return open_cascade(self.config, self.hooks, Asking(budget, use_cache=not fresh))

    def certificate(self) -> Certificate:
        """The certificate in place, which may say "no certificate". Raises NoCertificate without any."""
        return read_certificate(self.config.folder)

    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """Item ids by role. No label is looked at: only which items have any, in a batch not even that."""
        return select_rows(self.config, load_dataset(self.config)).roles

    def run_ids(self) -> list[str]:
        """All runs, oldest first."""
        return run_ids(self.config.folder)

    def run_path(self, run_id: str) -> Path:
        """Where a run lies."""
        return run_path(self.config.folder, run_id)

    def load_run(self, run_id: str | None = None) -> Run:
        """A recorded run, the latest one by default, with its labels and the estimates that they allow."""
        data = load_dataset(self.config)
        folder = find_run(self.config.folder, run_id or "latest")
        return with_estimates(self.config, with_labels(folder, data), data)

    def report(
        self, run_id: str | None = None, more: Callable[[Certificate], Sequence[Section]] = lambda _: ()
    ) -> tuple[Report, Path]:
        """Turn a run, or the certificate where nothing was run, into report.html, .md and .json.

        `more` makes further sections from the certificate; they come before the last one, the provenance.
        """
        from trustescalate.report.html import render_html
        from trustescalate.report.machine import render_json
        from trustescalate.report.markdown import render_markdown

        probe = read_probe(self.config.folder)
        if run_id is None and not self.run_ids():
            certificate, folder = self.certificate(), self.config.folder
            report = build_calibration(certificate, probe)
        else:
            run = self.load_run(run_id)
            certificate, folder = run.header.certificate, self.run_path(run.header.id)
            report = build(run, probe)
        *first, provenance = report.sections
        report = replace(report, sections=(*first, *more(certificate), provenance))
        for name, render in (("html", render_html), ("md", render_markdown), ("json", render_json)):
            write_atomically(folder / f"report.{name}", render(report).encode())
        return report, folder / "report.html"

    def gate(self, run_id: str | None = None) -> tuple[Verdict, Path]:
        """Hold a run against [gate]; write decision.json and junit.xml beside it."""
        from trustescalate.report.junit import render_junit

        run = self.load_run(run_id)
        verdict = decide(build(run), self.config.gate, stale=why_stale(self.config, run))
        folder = self.run_path(run.header.id)
        write_atomically(folder / "decision.json", encode(verdict) + b"\n")
        checks = [(check.name, check.status, check.message) for check in verdict.checks]
        write_atomically(folder / "junit.xml", render_junit("trustescalate gate", checks).encode())
        return verdict, folder / "decision.json"
