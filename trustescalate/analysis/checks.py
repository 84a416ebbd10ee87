"""Check a configuration and its data: facts and warnings, without a model call."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trustescalate.calibration.attempts import first_share
from trustescalate.calibration.ledger import labels_of, read_ledger, row_digest
from trustescalate.calibration.prepare import current_ledger, draw_batch, select_rows
from trustescalate.calibration.selection import Selection, must_be_clusters
from trustescalate.cascade.fit_judges import fitting_rows
from trustescalate.config import (
    CallableJudge,
    ChatTable,
    ClassicalJudge,
    Config,
    DecisionsJudge,
    EndpointTable,
    GuaranteeTable,
    RewardJudge,
    ScoreJudge,
    parse_config,
)
from trustescalate.config import ReplayJudge as ReplayTable
from trustescalate.config.judges import ModelTable
from trustescalate.data.batch import to_label
from trustescalate.data.clusters import ITEM, duplicates
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.data.labels import majority, without_labels
from trustescalate.data.quality import check_quality
from trustescalate.errors import CertificateMismatch, DataError, NotMeasurable, few_of_each
from trustescalate.judges.conclusions import holds_a_verdict
from trustescalate.judges.criteria_replies import criteria_in
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.prompts import conversation, orders, symbols
from trustescalate.judges.registry import asked_criteria, asking, recorded_judges
from trustescalate.judges.replay import ReplayJudge
from trustescalate.records import SKIP, Annotation, Clusters, Item
from trustescalate.records.criteria import row_name
from trustescalate.records.item_columns import items_of
from trustescalate.records.item_fields import values_of
from trustescalate.records.jsonl import read_rows
from trustescalate.stats.conformal import fewest_rows
from trustescalate.stats.planning import label_floor

MOST_VALUES_SHOWN = 12
FEW_PILOT = 30
MOST_NAMED = 4
"""With fewer unlabelled rows the expected coverage of a policy is unreliable."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of `check`: facts as (name, value), and warnings."""

    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"facts": dict(self.facts), "warnings": list(self.warnings)}


def inspect_project(config: Config) -> Inspection:
    """Read configuration and data; make no model calls. Raises ConfigError or DataError for invalid ones."""
    data, recorded = _read_all(config)
    selected = select_rows(config, data)
    roles = selected.roles
    task, guarantee = config.task.task(), config.guarantee
    truth = majority(task, data.annotations)
    labels = Counter("no majority" if label is None else label for label in truth.values())
    facts = (
        ("task", f"{task.kind}: {task.question} ({', '.join(task.labels)})"),
        (
            "items",
            f"{_counted(config, data)}, of which {len(data.labelled):,} are labelled{_selected_labels(data)}",
        ),
        ("annotators", f"{len({row.annotator for row in data.annotations})}"),
        ("labels", ", ".join(f"{label} {count:,}" for label, count in sorted(labels.items())) or "none"),
        ("roles", ", ".join(f"{role} {len(ids):,}" for role, ids in roles.items())),
        ("guarantee", _describe_guarantee(guarantee)),
        *_test_facts(selected),
        *_left_out_facts(data, roles),
        *_ledger_facts(config, data, selected),
        *_batch_facts(config, data),
        *_value_facts(config, data, roles),
        ("votes per item", _votes_fact(config)),
        ("judges", ", ".join(f"{judge.name} ({judge.backend})" for judge in config.judges)),
    )
    quality, doubts = check_quality(task, data.items, data.annotations, roles)
    unlabelled = [] if data.annotations else [without_labels(config.folder)]
    unrecorded = _unrecorded(recorded, selected)
    warnings = (*unlabelled, *_warnings(config, data, selected), *unrecorded, *doubts)
    return Inspection((*facts, *quality), warnings)


def _counted(config: Config, data: Dataset) -> str:
    """The number of items; of several criteria that of their rows too."""
    rows, criteria = len(data.items), len(config.criteria)
    return f"{rows // criteria:,} on {criteria} criteria: {rows:,} rows" if criteria else f"{rows:,}"


def _read_all(config: Config) -> tuple[Dataset, Mapping[str, ReplayJudge]]:
    """Read the data, the prompts and the recorded votes. Raises DataError with the problems of all files."""
    for table in config.judges:
        if isinstance(table, ModelTable):
            asking(config, table)
    problems, hints = list[str](), list[str]()
    data, recorded = None, dict[str, ReplayJudge]()
    try:
        data = load_dataset(config)
    except DataError as error:
        problems, hints = problems + error.problems, [error.hint]
    try:
        recorded = recorded_judges(config)
    except DataError as error:
        problems, hints = problems + error.problems, [*hints, error.hint]
    if problems or data is None:
        raise DataError(problems, "; ".join(hints))
    return data, recorded


def _unrecorded(recorded: Mapping[str, ReplayJudge], selected: Selection) -> list[str]:
    """Name the recorded judges without votes on items that calibration asks about."""
    asked = [row for role in ("certify", "region", "pilot") for row in selected.roles.get(role, ())]
    warnings = []
    for name, judge in recorded.items():
        lacking = [row for row in asked if row not in judge.places]
        if lacking:
            named = ", ".join(lacking[:4]) + (", …" if len(lacking) > 4 else "")
            warnings.append(
                f"judge {name}: no votes are recorded on {len(lacking):,} of {len(asked):,} items ({named}): "
                "they count as failed"
            )
    return warnings


def _votes_fact(config: Config) -> str:
    """The most votes on an item, of each judge where they differ; recorded ones are in their files."""
    shown = len(orders(config.task.task(), swap=config.ensemble.swap))
    votes = {}
    for table in config.judges:
        if isinstance(table, ReplayTable):
            continue
        if isinstance(table, RewardJudge | ScoreJudge | ClassicalJudge):
            votes[table.name] = "1"
        elif isinstance(table, CallableJudge | DecisionsJudge):
            votes[table.name] = str(shown)
        else:
            each = config.ensemble.members * shown
            drawn = each * config.ensemble.samples
            votes[table.name] = str(drawn if table.channel == "samples" else each)
            if isinstance(table, ChatTable) and table.channel == "auto" and table.mode != "stated":
                votes[table.name] += f" ({drawn} without log-probabilities)" if drawn > each else ""
    if len(set(votes.values())) == 1:
        return f"up to {next(iter(votes.values()))} per judge"
    return ", ".join(f"{name} up to {most}" for name, most in votes.items()) or "as recorded"


def _left_out_facts(data: Dataset, roles: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Why not every labelled row certifies."""
    left, reasons = {item.id for item in data.labelled}, []
    certify = left & {*roles["certify"], *roles.get("region", ())}
    if len(certify) == len(left):
        return []
    total, left = len(left), left - certify
    for role in ("exemplars", "dev", "holdout", "aside", "waiting", "pilot"):
        mine = left & set(roles.get(role, ()))
        reasons += [f"{len(mine):,} {role}"] * bool(mine)
        left -= mine
    reasons += [f"{len(left):,} in a cluster with a row that is used"] * bool(left)
    return [("certification rows", f"{len(certify):,} of {total:,} labelled rows; {', '.join(reasons)}")]


def _describe_guarantee(guarantee: GuaranteeTable) -> str:
    if guarantee.claim == "expected":
        return f"alpha {guarantee.alpha:g} in expectation only; every judge judges every item"
    return f"alpha {guarantee.alpha:g}, delta {guarantee.delta:g}, path {guarantee.path}"


def inspect_data(path: Path) -> Inspection:
    """Check a folder or a file of items without a configuration; annotations.jsonl is beside the items.

    The task is inferred from the rows. Raises DataError for rows that fit no task.
    """
    items_path = path / "items.jsonl" if path.is_dir() else path
    notes_path = items_path.with_name("annotations.jsonl")
    first = next((row.record for row in read_rows(items_path, Item).rows), None)
    labels = (
        {row.record.label for row in read_rows(notes_path, Annotation).rows} if notes_path.exists() else set()
    )
    judge = {"name": "none", "backend": "replay", "votes": "votes.jsonl"}
    files = {"items": items_path.name} | ({"annotations": notes_path.name} if notes_path.exists() else {})
    given = {"version": 1, "task": infer_task(first, labels - {SKIP}), "data": files, "judges": [judge]}
    config = parse_config(given, items_path.with_name("trustescalate.toml"))
    task, data = config.task.task(), load_dataset(config)
    counts = Counter(label or "no majority" for label in majority(task, data.annotations).values())
    facts = (
        ("task", f"{task.kind} ({', '.join(task.labels)}), inferred without a configuration"),
        ("items", f"{len(data.items):,}, of which {len(data.labelled):,} are labelled"),
        ("annotators", f"{len({row.annotator for row in data.annotations})}"),
        ("labels", ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items())) or "none"),
    )
    quality, doubts = check_quality(task, data.items, data.annotations, {})
    shared = _describe_shared(duplicates(data.items))
    return Inspection((*facts, *quality), (*shared, *doubts))


def _test_facts(selected: Selection) -> list[tuple[str, str]]:
    """Describe how certification rows are drawn, unless they are all rows."""
    facts, weights = list[tuple[str, str]](), selected.weighting
    if (given := selected.drawn_from) is not None:
        facts.append(("clusters", _cluster_fact(given)))
    if weights is not None:
        facts.append(("weights", f"{weights.kept:,} of {weights.offered:,} rows kept ({weights.source})"))
    if selected.region is not None:
        rows = len(selected.roles["region"])
        facts.append(
            ("region", f"{rows:,} rows where the tested policies accept, in addition to uniform ones")
        )
    if selected.interim is not None:
        analysis = selected.interim
        share = f"{analysis.number} of {len(analysis.sizes)}, with {analysis.share:g} of delta"
        facts.append(("interim analysis", share))
    return facts


def _ledger_facts(config: Config, data: Dataset, selected: Selection) -> list[tuple[str, str]]:
    """Count earlier tests of the certification labels, and labels that no other test may use."""
    ledger, certify = read_ledger(config.folder), set(selected.roles["certify"])
    labels = labels_of(items_of(data.items, certify), data.annotations)
    times, before = ledger.times(labels), ledger.before(labels)
    tested = [times[row] for row, _ in labels.rows if times[row]]
    facts = [("tested before", "none of the certification labels")]
    if before:
        facts = [
            (
                "tested before",
                f"{len(tested):,} of {len(labels.rows):,} certification labels, at most "
                f"{max(times.values())} times; {ledger.spent(labels):.3g} of delta is spent",
            )
        ]
    chosen = [item.id for item in data.labelled if row_digest(item) in ledger.chosen_by]
    if chosen:
        commands = ", ".join(sorted(set(ledger.chosen_by.values())))
        facts.append(("used for choices", f"{len(chosen):,} labels ({commands}): no other test may use them"))
    return facts


def _cluster_fact(given: Clusters) -> str:
    least, middle, most = given.sizes
    tested = {
        "one_per_cluster": "one row of each is tested",
        "row_weighted": f"one row of each, kept in {given.kept:,} in proportion to its size",
        "betting": f"tested by betting, with at most {given.largest} rows to a cluster",
    }
    return (
        f"{given.count:,} by {given.by}, of {least:,} to {most:,} labelled rows (median {middle:,}); "
        f"{tested[given.test]}"
    )


def _selected_labels(data: Dataset) -> str:
    picked = len(data.annotated) - len(data.labelled) - len(data.in_region)
    return f"; {picked:,} more were selected for annotation and certify nothing" if picked else ""


def _batch_facts(config: Config, data: Dataset) -> tuple[tuple[str, str], ...]:
    drawn = draw_batch(config, data)
    if drawn is None:
        return ()
    missing = len(to_label(drawn, data))
    text = (
        f"{drawn.size:,} items; {len(drawn.drawn):,} rows drawn for annotation, {missing:,} without a label"
    )
    return (("batch", text),)


def _value_facts(
    config: Config, data: Dataset, roles: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, str], ...]:
    counts = _value_counts(config, data, roles)
    if not counts:
        return ()
    shown = [f"{value} {n:,}" for value, n in counts.most_common(MOST_VALUES_SHOWN)]
    more = [f"and {len(counts) - MOST_VALUES_SHOWN:,} more"] if len(counts) > MOST_VALUES_SHOWN else []
    return ((f"a guarantee for each {config.groups.by}", ", ".join([*shown, *more])),)


def _value_counts(config: Config, data: Dataset, roles: Mapping[str, Sequence[str]]) -> Counter[str]:
    """Count certification rows by value of [groups] by."""
    by, certify = config.groups.by, set(roles["certify"])
    if by is None:
        return Counter()
    return Counter(values_of(list(items_of(data.items, certify)), by).values())


def _value_warnings(config: Config, counts: Counter[str]) -> list[str]:
    given, guarantee = config.groups, config.guarantee
    weights = {value: given.weights.get(value, 1.0) for value, n in counts.items() if n >= given.min_rows}
    warnings = []
    for value, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        at = f"{given.by} {value!r}: {n} certification rows"
        if value not in weights:
            warnings.append(f"{at}, fewer than {given.min_rows}: not tested, abstains")
            continue
        share = guarantee.delta * weights[value] / sum(weights.values())
        floor = label_floor(given.alpha.get(value, guarantee.alpha), share)
        if n < floor:
            warnings.append(f"{at}; fewer than {floor} certify nothing with its share of delta")
    return few_of_each(warnings)


def _too_few(guarantee: GuaranteeTable, selected: Selection, rows: int) -> list[str]:
    if selected.missing:
        return [f"the first interim analysis needs {selected.missing:,} more certification rows"]
    share = first_share(guarantee.attempts) if selected.interim is None else selected.interim.share
    floor, can = label_floor(guarantee.alpha, guarantee.delta * share), "certify"
    if guarantee.claim == "expected":
        floor, can = fewest_rows(guarantee.alpha), "release"
    return [f"{rows} certification rows; fewer than {floor} can {can} nothing"] if rows < floor else []


def _pilot_warnings(config: Config, pilot: int) -> list[str]:
    if config.guarantee.path == "tierwise" or pilot >= min(FEW_PILOT, config.guarantee.pilot):
        return []
    return [
        f"{pilot} unlabelled items, or rows in the roles dev and holdout, to lay out the path; fewer than "
        f"{FEW_PILOT} may start it poorly: add more, or set [roles] dev = 0.2"
    ]


def _warnings(config: Config, data: Dataset, selected: Selection) -> list[str]:
    roles = selected.roles
    certify = len(roles["certify"]) + len(roles.get("region", ()))
    drawn = draw_batch(config, data)
    warnings = _cluster_warnings(config, data) if drawn is None else []
    try:
        if drawn is None or not to_label(drawn, data):
            exemplars_of(config, data, roles["exemplars"])
    except DataError as error:
        warnings += error.problems
    try:
        current_ledger(config.folder, roles["certify"])
    except CertificateMismatch as error:
        warnings.append(error.message)
    if drawn is None:
        warnings += _too_few(config.guarantee, selected, certify)
    if config.fitted_on:
        from trustescalate.judges.classical import FEWEST, MORE

        rows = fitting_rows(config, data, roles)
        for fit_on, given in (("labels", rows.labelled), ("last_judge", rows.unlabelled)):
            if fit_on in config.fitted_on and len(given) < FEWEST:
                need = f"{len(given)} rows to fit a classical judge on, fewer than {FEWEST}"
                warnings.append(f"{need}: {MORE[fit_on]}")
    warnings += _pilot_warnings(config, len(roles["pilot"]))
    warnings += _value_warnings(config, _value_counts(config, data, roles))
    for judge in config.judges:
        if isinstance(judge, EndpointTable):
            names = (judge.api_key_env,) if judge.api_key_env else judge.key_names
            if names and not any(map(os.environ.get, names)):
                warnings.append(f"judge {judge.name}: the variable {names[0]} is not set")
    warnings += _verdict_warnings(config, data)
    if drawn is None and not data.unlabelled:
        warnings.append("every item is labelled, so `run` needs --items")
    return warnings


def _verdict_warnings(config: Config, data: Dataset) -> list[str]:
    """Name the items whose texts state a verdict themselves: a sign on the item, whichever label it names."""
    task, each = config.task.task(), asked_criteria(config)
    words = symbols(task)
    shown = ((item, conversation(task, (), item).material) for item in data.items)
    holding = (
        item for item, texts in shown if (criteria_in(texts, each) if each else holds_a_verdict(texts, words))
    )
    marked = list(dict.fromkeys(row_name(item).item_id for item in holding))
    if not marked:
        return []
    named = ", ".join(marked[:MOST_NAMED]) + (", …" if len(marked) > MOST_NAMED else "")
    return [
        f"{len(marked):,} items hold a verdict in their texts ({named}): on these a judge's reply of several "
        "lines counts as failed, whichever label it gives"
    ]


def _cluster_warnings(config: Config, data: Dataset) -> list[str]:
    warnings = []
    try:
        must_be_clusters(config, data)
    except NotMeasurable as error:
        warnings.append(f"{error.message}; {error.hint}")
    if config.data.cluster == ITEM:
        return warnings
    return warnings + _describe_shared(duplicates(data.items))


def _describe_shared(groups: Sequence[Sequence[str]]) -> list[str]:
    if not groups:
        return []
    named = "; ".join(", ".join(ids[:4]) + (", …" if len(ids) > 4 else "") for ids in groups[:3])
    count = f" ({len(groups):,} prompts)" if len(groups) > 1 else ""
    return [f"items {named} share a prompt and no group{count}; if they are clustered, set [data] cluster"]


def infer_task(item: Item | None, labels: set[str]) -> dict[str, Any]:
    """Infer the [task] table from one item and all labels."""
    if item is not None and len(item.responses) == 2:
        return {"kind": "pairwise"}
    if labels <= {"pass", "fail"}:
        return {"kind": "binary"}
    if all(label.isdecimal() and len(label) < 3 for label in labels) and len(labels) > 1:
        return {"kind": "rating", "scale": [min(map(int, labels)), max(map(int, labels))]}
    return {"kind": "choice", "labels": sorted(labels)}
