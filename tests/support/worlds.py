"""A draw of a simulated world, from votes and labels to a certificate."""

from collections.abc import Sequence

import numpy as np

from trustescalate.calibration.calibrate import calibrate
from trustescalate.calibration.protocol import Protocol
from trustescalate.records import Annotation, Certificate, Judgment, Task, TaskKind, Vote
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import Sample, World

ALPHA, DELTA, N, PILOT = 0.2, 0.1, 120, 60
TASK = Task(TaskKind.BINARY, "Is it right?", ("pass", "fail"))


def judgments(name: str, ids: Sequence[str], sample: Sample, tier: int) -> dict[str, Judgment]:
    votes = zip(ids, sample.scores[:, tier].tolist(), sample.labels[:, tier].tolist(), strict=True)
    return {
        item: Judgment(
            item,
            name,
            name,
            (Vote(0, "", {TASK.labels[label]: score, TASK.labels[1 - label]: 1 - score}),),
            1,
        )
        for item, score, label in votes
    }


def certified(place: World, path: str, rng: np.random.Generator, rows: int = N) -> Certificate:
    tested, seen = place.draw(rows, rng), place.draw(PILOT, rng)
    certify, pilot = [f"c{n}" for n in range(rows)], [f"p{n}" for n in range(PILOT)]
    names = [f"j{tier}" for tier in range(tested.scores.shape[1])]
    judged = {
        name: {**judgments(name, certify, tested, tier), **judgments(name, pilot, seen, tier)}
        for tier, name in enumerate(names)
    }
    protocol = Protocol(
        task=TASK,
        rule=TestRule(ALPHA, DELTA, path),  # type: ignore[arg-type]
        claim="population",
        estimator="ensemble",
        judges=tuple((name, name) for name in names),
        roles={"exemplars": (), "dev": (), "holdout": (), "certify": tuple(certify), "pilot": tuple(pilot)},
        grouped=False,
        seed=0,
        version="0",
    )
    notes = [
        Annotation(item, "p", TASK.labels[truth]) for item, truth in zip(certify, tested.truth, strict=True)
    ]
    return calibrate(protocol, notes, judged, created="")
