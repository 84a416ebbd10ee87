"""The deny-list of the glossary: what a user or reader must not meet, and the term that replaces it."""

import re
from collections.abc import Iterator

WORDS: tuple[tuple[str, str], ...] = (
    ("dear", "expensive"),
    ("dearer", "more expensive"),
    ("dearest", "last judge"),
    ("what people say", "human labels"),
    ("yardstick", "human ceiling"),
    ("how people agree", "inter-annotator agreement"),
    ("how far it agrees", "human agreement"),
    ("opinion", "annotation"),
    ("opinions", "annotations"),
    ("for people to decide", "human review queue"),
    ("left to people", "abstained"),
    ("promise", "guarantee"),
    ("promises", "guarantees"),
    ("promised", "guaranteed"),
    ("broken promise", "violation"),
    ("this holds if", "assumptions"),
    ("refusal", "no certificate"),
    ("undrawn", "held-out"),
    ("hang together", "clustered"),
    ("hangs together", "clustered"),
    ("looks", "interim analyses"),
    ("look_shares", "interim_shares"),
    ("smoke detector", "distribution-shift check"),
    ("favours a place", "position bias"),
    ("goes by length", "length bias"),
    ("leanings", "bias"),
    ("buy a verdict", "prompt injection"),
    ("honesty", "calibration"),
    ("rehearse", "dry run"),
    ("rehearses", "estimates"),
    ("rehearsal", "dry run"),
    ("asks nobody", "makes no model calls"),
    ("ask nobody", "make no model calls"),
    ("asked before", "cache hit"),
    ("--fresh", "--no-cache"),
    ("where this comes from", "provenance"),
    ("seal", "digest"),
    ("sealed", "bound by a digest"),
    ("save that", "except that"),
    ("whoever", "anyone who"),
    ("thereof", "of it"),
    ("mend", "fix"),
    ("confidence level", "risk level"),
    ("selftest", "self_test"),
    ("band", "simultaneous limits"),
    ("recalibrate", "removed"),
    ("learn_from", "fit_on"),
    ("humans_replace", "release_human_labels"),
    ("one_each", "one_per_cluster"),
    ("unasked", "empty_is_missing"),
)
"""A word or phrase, and its replacement. Case does not matter; a match ends at the ends of words."""

KEYS: tuple[tuple[str, str], ...] = (
    ("data.group", "data.cluster"),
    ("guarantee.clusters", "guarantee.cluster_test"),
    ("guarantee.label", "guarantee.label_budget"),
    ("guarantee.looks", "guarantee.interim"),
    ("guarantee.look_shares", "guarantee.interim_shares"),
    ("guarantee.against", "guarantee.reference"),
    ("guarantee.humans_replace", "guarantee.release_human_labels"),
    ("groups.enough", "groups.target_coverage"),
    ("groups.fewest", "groups.min_rows"),
    ("ensemble.learn_from", "judges.fit_on"),
    ("judges.middle", "judges.decision_threshold"),
    ("import.carry", "import.forward_fill"),
    ("import.unasked", "import.empty_is_missing"),
    ("import.guarded", "import.escaped_formulas"),
)
"""Renamed keys of trustescalate.toml, which are words of their own elsewhere."""

_DENIED = re.compile(
    r"(?<![\w-])(" + "|".join(sorted((re.escape(old) for old, _ in WORDS), key=len)[::-1]) + r")(?!\w)",
    re.IGNORECASE,
)


def denied(text: str) -> Iterator[str]:
    """Each denied word of a text, with the term to use.

    >>> list(denied("the dearest judge keeps its promise"))
    ['dearest: last judge', 'promise: guarantee']
    >>> list(denied("the last judge"))
    []
    """
    terms = dict(WORDS)
    for match in _DENIED.finditer(text):
        yield f"{match[0]}: {terms[match[0].lower()]}"
