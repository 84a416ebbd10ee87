"""Name the replacement of a key or value of an earlier version."""

from collections.abc import Mapping

LEARN = 'backend = "classical" with fit_on = "last_judge" makes a cheap judge that learns from the last one'

RENAMED: Mapping[str, str] = {
    "data.group": "cluster",
    "gate.max_failures": "max_failure_share",
    "groups.enough": "target_coverage",
    "groups.fewest": "min_rows",
    "guarantee.against": "reference",
    "guarantee.clusters": "cluster_test",
    "guarantee.humans_replace": "release_human_labels",
    "guarantee.label": "label_budget",
    "guarantee.look_shares": "interim_shares",
    "guarantee.looks": "interim",
    "import.carry": "forward_fill",
    "import.guarded": "escaped_formulas",
    "import.unasked": "empty_is_missing",
    "judges.middle": "decision_threshold",
}
"""New names of keys; all tables of judges count as `judges`."""

RENAMED_VALUES: Mapping[tuple[str, str], str] = {
    ("guarantee.cluster_test", "bet"): "betting",
    ("guarantee.cluster_test", "one_each"): "one_per_cluster",
}

REMOVED: Mapping[str, str] = {
    "ensemble.learn_from": f"remove it; {LEARN}",
    "ensemble.recalibrate": 'remove it; path = "hedged" or "pooled" compares judges without labels',
}

REMOVED_VALUES: Mapping[tuple[str, str], str] = {
    ("ensemble.estimator", "boosted"): f'set estimator = "ensemble"; {LEARN}',
    ("ensemble.estimator", "interval"): 'set estimator = "ensemble"',
    ("ensemble.estimator", "learned"): f'set estimator = "ensemble"; {LEARN}',
    ("ensemble.estimator", "predictive"): 'set estimator = "ensemble", with annotators = 1 for one prompt',
    ("guarantee.path", "calibrated"): 'set path = "hedged"',
}


def moved_key(loc: tuple[object, ...]) -> str:
    """Describe what became of a key; empty for unknown ones.

    >>> moved_key(("guarantee", "looks")), moved_key(("judges", 0, "middle")), moved_key(("task", "x"))
    ('is now interim', 'is now decision_threshold', '')
    """
    key = _path(loc)
    if key in RENAMED:
        return f"is now {RENAMED[key]}"
    return f"is gone: {REMOVED[key]}" if key in REMOVED else ""


def moved_value(loc: tuple[object, ...], value: object) -> str:
    """Describe what became of a value of a key; empty for unknown ones.

    >>> moved_value(("guarantee", "cluster_test"), "bet")
    '"bet" is now "betting"'
    """
    if not isinstance(value, str):
        return ""
    key = (_path(loc), value)
    if key in RENAMED_VALUES:
        return f'"{value}" is now "{RENAMED_VALUES[key]}"'
    return f'"{value}" is gone: {REMOVED_VALUES[key]}' if key in REMOVED_VALUES else ""


def _path(loc: tuple[object, ...]) -> str:
    return ".".join(str(part) for part in loc if not isinstance(part, int))
