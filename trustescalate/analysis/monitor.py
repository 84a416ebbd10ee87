"""Watching a certified cascade with people's labels: has the judge changed, has the population?

Two e-processes (`stats.drift`), one over audited production verdicts, one over certification rows that the
live judges answer again. The state lies beside the certificate: which labels were used, in which order, so
that looking often, restarting and feeding a label twice change nothing. Counts are never stored. Where a
verdict may lose a share, a hash of the certificate and the item decides whether it counts as wrong.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from trustescalate.calibration.files import read_certificate
from trustescalate.calibration.losses import losses
from trustescalate.cascade.run_folder import load_run, run_ids
from trustescalate.cascade.runner import must_certify
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
from trustescalate.records import STRICT, Annotation, Certificate, Item, Json, Label, Task
from trustescalate.records.jsonl import decode, digest, encode, read_rows, write_atomically, write_rows
from trustescalate.records.policies import largest_alpha
from trustescalate.records.progress import Hooks
from trustescalate.report.terminal import table_lines
from trustescalate.stats.bounds import BoolArray
from trustescalate.stats.drift import Verdict, drift

STATE = "monitor.json"
ANCHORS = "monitor.anchors.jsonl"
STATE_SCHEMA = 1
LEVEL = 0.05
MOST_SHOWN = 690.0
"""Evidence above e^690 is shown as that: floats end soon after."""


@dataclass(frozen=True, slots=True)
class Used:
    """One label that was counted: the item, a hash of its texts, the run, whether its verdict was wrong."""

    item: str
    content: str
    run: str
    error: bool
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class State:
    """monitor.json: what it belongs to, and every label used, oldest first.

    `draws` is how far the drawing of anchors has come, `anchor_runs` are the runs that were counted.
    """

    schema: int
    certificate: str
    level: float
    audit: tuple[Used, ...] = ()
    anchors: tuple[Used, ...] = ()
    draws: int = 0
    anchor_runs: tuple[str, ...] = ()
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Evidence:
    """One e-process: labels and errors so far, the log of its highest value, the label of its alarm."""

    labels: int
    errors: int
    log_evidence: float
    alarm: int | None

    @property
    def value(self) -> float:
        """The highest e-value, cut where floats end."""
        return math.exp(min(self.log_evidence, MOST_SHOWN))


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known by now. `added` labels are new; `left_out` counts the audit's items that say nothing."""

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
        """The e-value at which each of the two raises its alarm."""
        return 2 / self.level

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "limit": self.limit}

    def lines(self) -> list[str]:
        """For a terminal."""
        rows = [
            (
                name,
                f"{row.labels:,}",
                f"{row.errors:,}",
                f"{row.value:.4g}",
                f"{self.limit:.4g}",
                "none" if row.alarm is None else f"at label {row.alarm:,}",
            )
            for name, row in (("judge", self.anchors), ("population", self.audit))
        ]
        titles = ("watched", "labels", "wrong", "evidence", "limit", "alarm")
        left_out = [f"{count:,} audited items not counted: {why}" for why, count in self.left_out.items()]
        table = table_lines(titles, rows, "<>>>><")
        return [*table, *left_out, f"monitor: {self.verdict}", self._meaning()]

    def _meaning(self) -> str:
        if self.verdict == "judge":
            return (
                f"on rows it was certified on, the cascade now disagrees with people more than "
                f"{self.alpha:g}: a judge has changed. Release nothing; calibrate again"
            )
        if self.verdict == "population":
            return (
                f"released verdicts disagree with people more than {self.alpha:g}: calibrate again with "
                "fresh labels from what is judged now"
            )
        return "no alarm; that is no proof that all is well, only a fresh certificate is"


class Draw(NamedTuple):
    """Anchors to be judged again: the file they lie in, how many items, how many draws those are."""

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
    """Count new labels, and say whether anything has changed since the certificate.

    `audit` holds people's annotations of released verdicts, drawn at random; `run_id` says of which run, by
    default of all under this certificate. `anchors` is a run over anchors from `draw_anchors`. `level` is the
    chance of a false alarm, ever; it is fixed by the first call. Raises NoCertificate, CertificateMismatch
    for a state or run of another certificate, DataError for bad lines, NotMeasurable where there is no label.
    """
    certificate = _certified(config)
    before = _state(config, certificate, level)
    after = before
    left_out: Mapping[str, int] = {}
    if audit is not None:
        notes = _annotations(audit, certificate.task)
        released = _released(config, certificate, run_id)
        after, left_out = _audited(after, certificate, notes, released, audit)
    elif run_id is not None:
        raise UsageError("--run says which run was audited, and nothing was", "give --audit too")
    if anchors is not None:
        after = _anchored(after, certificate, config, hooks, anchors)
    if not after.audit and not after.anchors:
        raise NotMeasurable(
            "there is no label to watch with: " + (_why(left_out) or "none was given yet"),
            "label some released verdicts at random: --audit; or judge anchors again: --draw, then --anchors",
        )
    if after != before:
        write_atomically(config.folder / STATE, encode(after) + b"\n")
    return _watched(after, certificate, added=_size(after) - _size(before), left_out=left_out)


def draw_anchors(config: Config, draws: int) -> Draw:
    """Write the items of the next draws, with replacement, from the certification rows: to be judged again.

    The sequence of draws follows from the certificate alone, so nobody chooses, and a draw is never repeated
    once it was counted. Raises ValueError for fewer than one draw, otherwise as `watch` does.
    """
    if draws < 1:
        raise ValueError(f"at least one draw is needed, not {draws}")
    certificate = _certified(config)
    state = _state(config, certificate, None)
    sequence = _sequence(certificate, state.draws)
    wanted = dict.fromkeys(next(sequence) for _ in range(draws))
    by_id = {item.id: item for item in load_dataset(config).items}
    if gone := [item_id for item_id in wanted if item_id not in by_id]:
        raise DataError(
            [f"{config.path(config.data.items)}: certification row {gone[0]!r} is gone"],
            "bring back the items that the certificate was made with",
        )
    path = config.folder / ANCHORS
    write_rows(path, [by_id[item_id] for item_id in wanted])
    return Draw(path, len(wanted), draws)


# ── what was guaranteed, and what is known ─────────────────────────────────────────────────────────


def _certified(config: Config) -> Certificate:
    certificate = read_certificate(config.folder)
    must_certify(certificate, certificate.claim, certificate.alpha, certificate.delta)
    if certificate.batch is not None and certificate.batch.release_human_labels:
        raise NotMeasurable(
            "release_human_labels: this guarantee is about all answers of its batch, people's own among them, and "
            "`monitor` watches the judges' verdicts",
            "a batch is over once it is released: certify the next one",
        )
    return certificate


def _mark(certificate: Certificate) -> str:
    """A hash of the certificate; when it was written does not matter."""
    return digest(replace(certificate, created=""))


def _state(config: Config, certificate: Certificate, level: float | None) -> State:
    path = config.folder / STATE
    if level is not None and not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, not {level}")
    try:
        state = decode(path.read_bytes(), State)
    except FileNotFoundError:
        return State(STATE_SCHEMA, _mark(certificate), LEVEL if level is None else level)
    except ValueError as error:
        raise DataError([f"{path}: {error}"], "restore the file, or move it away and start anew") from None
    if state.schema != STATE_SCHEMA or not 0 < state.level < 1:
        raise DataError([f"{path}: not a state that this version writes"], "move it away and start anew")
    if state.certificate != _mark(certificate):
        raise CertificateMismatch(
            f"{path}: belongs to another certificate",
            "move it away: a new certificate is watched from its first label on",
        )
    if level is not None and level != state.level:
        raise UsageError(
            f"the level was fixed at {state.level:g} when the watch began, and cannot become {level:g}",
            "leave out --level",
        )
    return state


def _size(state: State) -> int:
    return len(state.audit) + len(state.anchors)


def _watched(state: State, certificate: Certificate, *, added: int, left_out: Mapping[str, int]) -> Watch:
    anchors, audit = _errors(state.anchors), _errors(state.audit)
    alpha = largest_alpha(certificate)  # what is watched is all that is released, whatever its value
    found = drift(anchors, audit, alpha, state.level)
    return Watch(
        found.verdict,
        alpha,
        state.level,
        Evidence(len(anchors), int(anchors.sum()), found.anchor_evidence, found.anchor_alarm),
        Evidence(len(audit), int(audit.sum()), found.audit_evidence, found.audit_alarm),
        added,
        dict(left_out),
    )


def _errors(rows: Sequence[Used]) -> BoolArray:
    return np.array([used.error for used in rows], dtype=np.bool_)


def _why(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in left_out.items())


# ── audits ───────────────────────────────────────────────────────────────────────────────────────

Released: TypeAlias = Mapping[str, Sequence[tuple[str, str, Label]]]
"""By item: (hash of its texts, run, released label), oldest run first."""


def _annotations(path: Path, task: Task) -> list[Annotation]:
    rows, problems = read_rows(path, Annotation)
    kept: dict[tuple[str, str], Annotation] = {}
    for line, note in rows:
        at, key = f"{path}:{line}: item {note.item_id!r}", (note.item_id, note.annotator)
        if note.label not in task.annotation_labels:
            allowed = ", ".join(task.annotation_labels)
            problems.append(f"{at}: label {note.label!r} is not one of {allowed}; mend or remove the line")
        elif kept.setdefault(key, note) != note:
            problems.append(f"{at}: {note.annotator!r} said something else before; keep one line")
    if problems:
        raise DataError(problems, "nothing was counted; mend the lines named above and try again")
    return list(kept.values())


def _released(config: Config, certificate: Certificate, run_id: str | None) -> Released:
    """What runs under this certificate released, or one of them."""
    found: dict[str, list[tuple[str, str, Label]]] = {}
    for name in run_ids(config.folder) if run_id is None else [run_id]:
        run = load_run(config.folder, load_dataset(config), name)
        if _mark(run.header.certificate) != _mark(certificate):
            if run_id is not None:
                raise CertificateMismatch(
                    f"run {run.header.id} was made under another certificate", "name a run of this one"
                )
            continue
        texts = {item.id: item for item in run.items}
        for decision in run.decisions:
            if decision.label is not None:
                content = _texts(texts[decision.item_id])
                found.setdefault(decision.item_id, []).append((content, run.header.id, decision.label))
    return found


def _audited(
    state: State, certificate: Certificate, notes: Sequence[Annotation], released: Released, path: Path
) -> tuple[State, Mapping[str, int]]:
    lost = losses(certificate.task, certificate.label_policy, notes)
    mark = _mark(certificate)
    spent = {item_id for ids in certificate.roles.values() for item_id in ids}
    known = {(used.item, used.content) for used in state.audit}
    drawn = {note.item_id for note in sampled(notes)}
    left_out = {
        "nothing was released on them": 0,
        "they made the certificate": 0,
        "they were not drawn at random": 0,
        "they are outside the claim": 0,
    }
    fresh, problems = list[Used](), list[str]()
    for item_id in dict.fromkeys(note.item_id for note in notes):
        verdicts = released.get(item_id, ())
        if item_id in spent:
            left_out["they made the certificate"] += 1
        elif not verdicts:
            left_out["nothing was released on them"] += 1
        elif item_id not in drawn:
            left_out["they were not drawn at random"] += 1
        elif item_id not in lost:
            left_out["they are outside the claim"] += 1
        elif len({content for content, _, _ in verdicts}) > 1:
            runs = ", ".join(run for _, run, _ in verdicts)
            problems.append(f"{path}: item {item_id!r} has different texts in {runs}; say which one by --run")
        elif (item_id, verdicts[0][0]) not in known:
            content, run, label = verdicts[0]
            wrong = _is_error(lost[item_id][label], mark, item_id, content)
            fresh.append(Used(item_id, content, run, wrong))
    if problems:
        raise DataError(problems, "nothing was counted")
    return replace(state, audit=(*state.audit, *fresh)), {why: n for why, n in left_out.items() if n}


# ── anchors ──────────────────────────────────────────────────────────────────────────────────────


def _sequence(certificate: Certificate, start: int) -> Iterator[str]:
    """Certification rows, drawn with replacement for ever; the same for everybody with this certificate."""
    ids, mark = certificate.roles["certify"], _mark(certificate)
    while True:
        yield ids[int(digest("anchor", mark, start), 16) % len(ids)]
        start += 1


def _anchored(state: State, certificate: Certificate, config: Config, hooks: Hooks, run_id: str) -> State:
    run = load_run(config.folder, load_dataset(config), run_id)
    name = run.header.id
    if name in state.anchor_runs:
        return state
    if _mark(run.header.certificate) != _mark(certificate):
        raise CertificateMismatch(
            f"run {name} was made under another certificate", "judge the anchors again under this one"
        )
    if run.header.status != "complete":
        raise NotMeasurable(f"run {name} is {run.header.status}", f"`trustescalate run --resume {name}`")
    if "--no-cache" not in run.header.command.split():
        hooks.notice(
            f"run {name} was made without --no-cache: answers from the cache show no change of a judge"
        )
    data = load_dataset(config)
    lost = losses(certificate.task, certificate.label_policy, data.annotations)
    mark = _mark(certificate)
    texts = {item.id: item for item in data.items}
    judged = {item.id: item for item in run.items}
    decided = {decision.item_id: decision.label for decision in run.decisions}
    used, draws = list[Used](), 0
    for item_id in _sequence(certificate, state.draws):
        if item_id not in judged or draws == len(certificate.roles["certify"]):
            break
        _must_be_the_same(texts.get(item_id), judged[item_id], name)
        draws += 1
        label = decided[item_id]
        if label is not None and item_id in lost:
            wrong = _is_error(lost[item_id][label], mark, item_id, state.draws + draws)
            used.append(Used(item_id, _texts(judged[item_id]), name, wrong))
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


def _is_error(loss: float, *chance: object) -> bool:
    """Wrong with probability `loss`, by a hash: a share becomes a right or wrong verdict of the same mean."""
    return int(digest("coin", *chance)[:13], 16) < loss * 16**13


def _texts(item: Item) -> str:
    return digest(item.prompt, item.reference, item.responses)


def _must_be_the_same(known: Item | None, judged: Item, run_id: str) -> None:
    if known is None or _texts(known) != _texts(judged):
        raise DataError(
            [f"run {run_id}: item {judged.id!r} has other texts than the certification row of that name"],
            "draw the anchors again: `trustescalate monitor --draw 100`",
        )
