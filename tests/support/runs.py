"""A finished run and its labels, with a mean that is known."""

from dataclasses import replace

import numpy as np

from tests.support.certificates import World
from trustescalate.records import (
    Annotation,
    Decision,
    Item,
    JudgeBinding,
    Judgment,
    Run,
    RunHeader,
    Step,
    Task,
    TaskKind,
    Vote,
)

TIERS = ("small", "large")
TAU = 0.8


def judgment(item: str, tier: int, share: float, votes: int = 2) -> Judgment:
    given = tuple(Vote(k // 2, "AB", {"A": share, "B": 1 - share}) for k in range(votes))
    return Judgment(item, TIERS[tier], TIERS[tier], given, 4)


def world(
    seed: int, labels: int = 150, items: int = 300, *, shift: float = 1.0, votes: int = 2
) -> tuple[Run, dict[str, dict[str, Judgment]], list[Annotation]]:
    """Items with P(A wins) = u^2, so 1/3 on average; the small judge is noisy, both prefer A too often."""
    rng = np.random.default_rng(seed)
    ids = [f"c{n}" for n in range(labels)] + [f"r{n}" for n in range(items)]
    chance = rng.random(len(ids)) ** 2
    chance[labels:] **= shift
    wins = rng.random(len(ids)) < chance
    shares = [np.clip(0.1 + 0.9 * chance + rng.normal(0, s, len(ids)), 0.01, 0.99) for s in (0.2, 0.05)]
    base = World().certificate()
    certified = replace(
        base,
        task=Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B")),
        alpha=0.4,
        thresholds=(TAU, TAU),
        judges=tuple(JudgeBinding(name, name, "logprobs") for name in TIERS),
        roles={"exemplars": (), "dev": (), "certify": tuple(ids[:labels]), "pilot": (), "holdout": ()},
        n=labels,
    )
    judged = {
        name: {ids[n]: judgment(ids[n], tier, float(shares[tier][n]), 4) for n in range(labels)}
        for tier, name in enumerate(TIERS)
    }
    rows, decisions = [], []
    for n in range(labels, len(ids)):
        steps = []
        for tier, name in enumerate(TIERS):
            share = float(shares[tier][n])
            rows.append(judgment(ids[n], tier, share, votes))
            score, label = max(share, 1 - share), "A" if share > 0.5 else "B"
            steps.append(Step(name, label, score, score, TAU, score >= TAU, 4, 4, ()))
            if score >= TAU:
                break
        last = steps[-1]
        decisions.append(
            Decision(ids[n], last.label if last.accepted else None, None, None, "", tuple(steps))
        )
    notes = [Annotation(ids[n], "x", "A" if wins[n] else "B") for n in range(labels)]
    header = RunHeader(1, "id", "complete", "now", "run", {}, certified, "", items, {})
    run = Run(header, tuple(Item(i, "p", ("a", "b")) for i in ids[labels:]), tuple(rows), tuple(decisions))
    return run, judged, notes
