"""Votes and labels for a certificate whose counts can be recomputed by hand."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.protocol import Protocol
from trustescalate.calibration.verify import verify
from trustescalate.records import Annotation, Certificate, Judgment, Task, TaskKind, Vote
from trustescalate.stats.rule import TestRule

TASK = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))


def judgment(item: str, judge: str, *shares: float, labels: tuple[str, ...] = ("A", "B")) -> Judgment:
    """Votes that give the first label these probabilities, and the second the rest; a negative one failed."""
    votes = tuple(
        Vote(i, "AB", {}, failure="timeout")
        if share < 0
        else Vote(i, "AB", {labels[0]: share, labels[1]: 1 - share}, cost=0.5)
        for i, share in enumerate(shares)
    )
    return Judgment(item, judge, f"print of {judge}", votes, len(shares))


def protocol_of(given: Mapping[str, Any]) -> Protocol:
    """A protocol from its fields, those of its test rule among them."""
    names = {field.name for field in fields(TestRule)}
    rule = TestRule(**{name: value for name, value in given.items() if name in names})
    return Protocol(rule=rule, **{name: value for name, value in given.items() if name not in names})


def protocol(ids: Sequence[str], judges: Sequence[str] = ("j",), **more: Any) -> Protocol:
    given: dict[str, Any] = {
        "task": TASK, "alpha": 0.2, "delta": 0.2, "claim": "population", "path": "common",
        "estimator": "ensemble",
        "judges": tuple((name, f"print of {name}") for name in judges),
        "roles": {"exemplars": (), "dev": (), "holdout": (), "certify": tuple(ids), "pilot": ()},
        "grouped": False, "seed": 0, "version": "0",
    }  # fmt: skip
    return protocol_of({**given, **more})


class World:
    """Sixty items, one or two judges, three annotators; every fifth verdict of the weak judge is wrong."""

    def __init__(self, seed: int = 8, judges: tuple[str, ...] = ("j",)) -> None:
        rng = random.Random(seed)
        self.ids = [f"i{n:02}" for n in range(60)]
        self.truth = {item: rng.choice("AB") for item in self.ids}
        self.judges = judges
        self.judged: dict[str, dict[str, Judgment]] = {}
        for name in judges:
            rows = {}
            for item in self.ids:
                sure = rng.uniform(0.5, 1.0)
                right = rng.random() < sure
                share = sure if right == (self.truth[item] == "A") else 1 - sure
                rows[item] = judgment(item, name, share, share)
            self.judged[name] = rows
        self.notes = [Annotation(item, who, self.truth[item]) for item in self.ids for who in ("x", "y", "z")]

    def certificate(self, notes: Sequence[Annotation] | None = None, **more: Any) -> Certificate:
        outcome = protocol(self.ids, self.judges, **more)
        made = certify(outcome, self.notes if notes is None else notes, self.judged, created="now")
        assert verify(made) == ()
        return made


def by_hand(
    world: World, thresholds: Sequence[float | None], truth: Mapping[str, str | None]
) -> tuple[int, int, tuple[int, ...]]:
    """Accepted, errors and accepted by tier, item by item."""
    tiers, errors = [0] * len(world.judges), 0
    for item, human in truth.items():
        for tier, name in enumerate(world.judges):
            votes = world.judged[name][item].votes
            mean = {label: sum(v.probs.get(label, 0.0) for v in votes) / len(votes) for label in "AB"}
            label = max(mean, key=lambda key: mean[key])
            tau = thresholds[tier]
            if mean["A"] != mean["B"] and tau is not None and mean[label] >= tau:
                tiers[tier] += 1
                errors += label != human
                break
    return sum(tiers), errors, tuple(tiers)
