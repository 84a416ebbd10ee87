"""Monitor a certified cascade with new human labels for judge drift and distribution shift.

Two e-processes (`stats.drift`) test the audited verdicts of production, and certification rows that the
judges judge again. The state beside the certificate lists every counted label in order, so interim analyses,
restarts and repeated labels change nothing; counts are never stored. A digest of the certificate and the item
decides whether a fractional loss counts as an error.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from trustescalate.analysis.monitor_state import (
    STATE,
    State,
    Used,
    is_error,
    item_digest,
    read_certified,
    read_state,
)
from trustescalate.calibration.ledger import undated
from trustescalate.calibration.losses import losses
from trustescalate.cascade.run_folder import load_run, whole_run_ids
from trustescalate.config import Config
from trustescalate.data.dataset import load_dataset
from trustescalate.data.labels import sampled
from trustescalate.errors import (
    EXIT_BREACH,
    EXIT_PASSED,
    CertificateMismatch,
    DataError,
    NotMeasurable,
    UsageError,
)
from trustescalate.records import Annotation, Certificate, Item, Label, Run, Task
from trustescalate.records.item_columns import items_by_id
from trustescalate.records.jsonl import digest, encode, read_rows, write_atomically, write_rows
from trustescalate.records.policies import largest_alpha
from trustescalate.records.progress import Hooks
from trustescalate.report.terminal import table_lines
from trustescalate.stats.bounds import BoolArray
from trustescalate.stats.drift import Verdict, drift

ANCHORS = "monitor.anchors.jsonl"
MOST_SHOWN = 690.0
"""The largest log e-value shown; exp overflows above 709."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One e-process: labels and errors so far, log of its maximum, and the label that raised the alarm."""

    labels: int
    errors: int
    log_evidence: float
    alarm: int | None

    @property
    def value(self) -> float:
        """The maximum e-value, at most e^690."""
        return math.exp(min(self.log_evidence, MOST_SHOWN))


@dataclass(frozen=True, slots=True)
class Watch:
    """The state of both tests. `added` labels are new; `left_out` counts the audited items not counted."""

    verdict: Verdict
    alpha: float
    level: float
    anchors: Evidence
    audit: Evidence
    added: int
    left_out: Mapping[str, int]

    @property
    def exit_code(self) -> int:
        """0 without an alarm, 1 with one."""
        return EXIT_PASSED if self.verdict == "none" else EXIT_BREACH

    @property
    def limit(self) -> float:
        """The e-value at which each test raises an alarm."""
        return 2 / self.level

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "limit": self.limit}

    def lines(self) -> list[str]:
        """For a terminal."""
        rows = []
        for name, row in (("judge", self.anchors), ("population", self.audit)):
            alarm = "none" if row.alarm is None else f"at label {row.alarm:,}"
            figures = f"{row.labels:,}", f"{row.errors:,}", f"{row.value:.4g}", f"{self.limit:.4g}"
            rows.append((name, *figures, alarm))
        titles = ("tested", "labels", "errors", "e-value", "limit", "alarm")
        left_out = [f"{count:,} audited items not counted: {why}" for why, count in self.left_out.items()]
        table = table_lines(titles, rows, "<>>>><")
        return [*table, *left_out, f"monitor: {self.verdict}", self._meaning()]

    def _meaning(self) -> str:
        if self.verdict == "judge":
            return (
                f"judge drift: on certification rows, the selective risk now exceeds {self.alpha:g}. Release "
                "no verdicts; calibrate again"
            )
        if self.verdict == "population":
            return (
                f"distribution shift: the selective risk of released verdicts exceeds {self.alpha:g}. "
                "Calibrate again with fresh labels from the present population"
            )
        return "no alarm. This does not prove that the risk is below alpha; only a new certificate does"


class Draw(NamedTuple):
    """Anchors to be judged again: their file, the number of items, and the number of draws."""

    path: Path
    items: int
    draws: int


def watch(
    config: Config,
    hooks: Hooks,
    *,
    audit: Path | None = None,
    run_id: str | None = None,
    anchors: str | None = None,
    level: float | None = None,
) -> Watch:
    """Count new labels and test for judge drift and distribution shift since the certificate.

    `audit` is a file of annotations of released verdicts drawn at random; `run_id` names the audited run, by
    default all under this certificate. `anchors` is a run over anchors from `draw_anchors`. `level` limits
    the probability of any false alarm; the first call fixes it. Raises NoCertificate, CertificateMismatch for
    a state or run of another certificate, DataError for invalid lines, NotMeasurable without any label.
    """
    certificate = read_certified(config)
    before = read_state(config, certificate, level)
    after = before
    left_out: Mapping[str, int] = {}
    if audit is not None:
        notes = _read_audit(audit, certificate.task)
        released = _released_verdicts(config, certificate, run_id)
        after, left_out = _count_audit(after, certificate, notes, released, audit)
    elif run_id is not None:
        raise UsageError("--run names the audited run, and there is no audit", "add --audit")
    if anchors is not None:
        after = _count_anchors(after, certificate, config, hooks, anchors)
    if not after.audit and not after.anchors:
        raise NotMeasurable(
            "there is no label to test with: "
            + (", ".join(f"{count:,} {why}" for why, count in left_out.items()) or "none was given yet"),
            "annotate released verdicts drawn at random (--audit) or judge anchors again (--draw, --anchors)",
        )
    if after != before:
        write_atomically(config.folder / STATE, encode(after) + b"\n")
    added = len(after.audit) + len(after.anchors) - len(before.audit) - len(before.anchors)
    return _test_state(after, certificate, added=added, left_out=left_out)


def draw_anchors(config: Config, draws: int) -> Draw:
    """Draw certification rows with replacement and write them to a file, to be judged again.

    The certificate alone determines the sequence of draws, and no counted draw is repeated. Raises ValueError
    for fewer than one draw, otherwise as `watch` does.
    """
    if draws < 1:
        raise ValueError(f"at least one draw is needed, not {draws}")
    certificate = read_certified(config)
    state = read_state(config, certificate, None)
    sequence = _sequence(certificate, state.draws)
    wanted = dict.fromkeys(next(sequence) for _ in range(draws))
    by_id = items_by_id(load_dataset(config).items)
    if missing := [item_id for item_id in wanted if item_id not in by_id]:
        raise DataError(
            [f"{config.path(config.data.items)}: certification row {missing[0]!r} is missing"],
            "restore the items of the certificate",
        )
    path = config.folder / ANCHORS
    write_rows(path, [by_id[item_id] for item_id in wanted])
    return Draw(path, len(wanted), draws)


def _test_state(state: State, certificate: Certificate, *, added: int, left_out: Mapping[str, int]) -> Watch:
    anchors, audit = _errors(state.anchors), _errors(state.audit)
    alpha = largest_alpha(certificate)  # the tests cover all released verdicts, whatever their group
    tested = drift(anchors, audit, alpha, state.level)
    return Watch(
        tested.verdict,
        alpha,
        state.level,
        Evidence(len(anchors), int(anchors.sum()), tested.anchor_evidence, tested.anchor_alarm),
        Evidence(len(audit), int(audit.sum()), tested.audit_evidence, tested.audit_alarm),
        added,
        dict(left_out),
    )


def _errors(rows: Sequence[Used]) -> BoolArray:
    return np.array([used.error for used in rows], dtype=np.bool_)


Released: TypeAlias = Mapping[str, Sequence[tuple[str, str, Label]]]
"""By item: (digest of its texts, run, released label), oldest run first."""


def _read_audit(path: Path, task: Task) -> list[Annotation]:
    rows, problems = read_rows(path, Annotation)
    kept: dict[tuple[str, str], Annotation] = {}
    for line, note in rows:
        at, key = f"{path}:{line}: item {note.item_id!r}", (note.item_id, note.annotator)
        if note.label not in task.annotation_labels:
            allowed = ", ".join(task.annotation_labels)
            problems.append(f"{at}: label {note.label!r} is not one of {allowed}; fix or remove the line")
        elif kept.setdefault(key, note) != note:
            problems.append(f"{at}: {note.annotator!r} gave another label before; keep one line")
    if problems:
        raise DataError(problems, "nothing was counted; fix the lines named above and try again")
    return list(kept.values())


def _released_verdicts(config: Config, certificate: Certificate, run_id: str | None) -> Released:
    """Return the verdicts released by one run, or by all runs, under this certificate."""
    verdicts: dict[str, list[tuple[str, str, Label]]] = {}
    data = load_dataset(config)
    for name in whole_run_ids(config.folder) if run_id is None else [run_id]:
        run = load_run(config.folder, data, name)
        _must_release(run, named=run_id is not None)
        if undated(run.header.certificate) != undated(certificate):
            if run_id is not None:
                raise CertificateMismatch(
                    f"run {run.header.id} was made under another certificate", "name a run of this one"
                )
            continue
        texts = items_by_id(run.items)
        for decision in run.decisions:
            if decision.label is not None:
                content = item_digest(texts[decision.item_id])
                verdicts.setdefault(decision.item_id, []).append((content, run.header.id, decision.label))
    return verdicts


def _must_release(run: Run, *, named: bool) -> None:
    """Raise NotMeasurable for a run that is named and uncertified: it has no verdict to be monitored."""
    if named and run.uncertified:
        raise NotMeasurable(
            f"run {run.header.id} is uncertified: it released nothing, so there is nothing to monitor",
            "name a run of the certificate",
        )


def _count_audit(
    state: State, certificate: Certificate, notes: Sequence[Annotation], released: Released, path: Path
) -> tuple[State, Mapping[str, int]]:
    lost = losses(certificate.task, certificate.label_policy, notes)
    mark = undated(certificate)
    spent = {item_id for ids in certificate.roles.values() for item_id in ids}
    known = {(used.item, used.content) for used in state.audit}
    drawn = {note.item_id for note in sampled(notes)}
    left_out: Counter[str] = Counter()
    fresh, problems = list[Used](), list[str]()
    for item_id in dict.fromkeys(note.item_id for note in notes):
        verdicts = released.get(item_id, ())
        if item_id in spent:
            left_out["used for the certificate"] += 1
        elif not verdicts:
            left_out["no released verdict"] += 1
        elif item_id not in drawn:
            left_out["not drawn at random"] += 1
        elif item_id not in lost:
            left_out["outside the claim"] += 1
        elif len({content for content, _, _ in verdicts}) > 1:
            runs = ", ".join(run for _, run, _ in verdicts)
            problems.append(f"{path}: item {item_id!r} has different texts in {runs}; name one with --run")
        elif (item_id, verdicts[0][0]) not in known:
            content, run, label = verdicts[0]
            wrong = is_error(lost[item_id][label], mark, item_id, content)
            fresh.append(Used(item_id, content, run, wrong))
    if problems:
        raise DataError(problems, "nothing was counted")
    return replace(state, audit=(*state.audit, *fresh)), left_out


def _sequence(certificate: Certificate, start: int) -> Iterator[str]:
    """Yield certification rows drawn with replacement, in an order that the certificate determines."""
    ids, mark = certificate.roles["certify"], undated(certificate)
    while True:
        yield ids[int(digest("anchor", mark, start), 16) % len(ids)]
        start += 1


def _count_anchors(
    state: State, certificate: Certificate, config: Config, hooks: Hooks, run_id: str
) -> State:
    data = load_dataset(config)
    run = load_run(config.folder, data, run_id)
    name = run.header.id
    _must_release(run, named=True)
    if name in state.anchor_runs:
        return state
    if undated(run.header.certificate) != undated(certificate):
        raise CertificateMismatch(
            f"run {name} was made under another certificate", "judge the anchors again under this one"
        )
    if run.header.status != "complete":
        raise NotMeasurable(f"run {name} is {run.header.status}", f"`trustescalate run --resume {name}`")
    if "--no-cache" not in run.header.command.split():
        hooks.notice(f"run {name} was made without --no-cache: cache hits show no judge drift")
    lost = losses(certificate.task, certificate.label_policy, data.annotations)
    mark = undated(certificate)
    texts = items_by_id(data.items)
    judged = items_by_id(run.items)
    decided = {decision.item_id: decision.label for decision in run.decisions}
    used, draws = list[Used](), 0
    for item_id in _sequence(certificate, state.draws):
        if item_id not in judged or draws == len(certificate.roles["certify"]):
            break
        _must_be_the_same(texts.get(item_id), judged[item_id], name)
        draws += 1
        label = decided[item_id]
        if label is not None and item_id in lost:
            wrong = is_error(lost[item_id][label], mark, item_id, state.draws + draws)
            used.append(Used(item_id, item_digest(judged[item_id]), name, wrong))
    if not draws:
        raise NotMeasurable(
            f"run {name} does not hold the next anchor",
            "`trustescalate monitor --draw 100` writes anchors; judge those with `run --no-cache --items`",
        )
    return replace(
        state,
        anchors=(*state.anchors, *used),
        draws=state.draws + draws,
        anchor_runs=(*state.anchor_runs, name),
    )


def _must_be_the_same(known: Item | None, judged: Item, run_id: str) -> None:
    if known is None or item_digest(known) != item_digest(judged):
        raise DataError(
            [f"run {run_id}: item {judged.id!r} has other texts than the certification row of this id"],
            "draw the anchors again: `trustescalate monitor --draw 100`",
        )
