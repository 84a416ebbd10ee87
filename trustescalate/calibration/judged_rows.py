"""Read votes on rows: which tier judges a row last, and what its votes expect of the label."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from trustescalate.calibration.protocol import Judged
from trustescalate.calibration.scoring import Scorer, stack_of
from trustescalate.calibration.votes import vote_array
from trustescalate.data.item_sets import Chosen, Numbers, mask_of
from trustescalate.records import Certificate, Judgment, Label, Run, Task
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.policies import Policy
from trustescalate.records.stored import placed_judgments
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Votes, stacked_scores

CHUNK = 512
"""Judgments whose votes are read together."""
ASKED_ONLY = 2.0
"""A threshold that no score reaches: every judge judges the item, and none decides by itself."""


def expect_value(scorer: Scorer, judgment: Judgment, values: Mapping[Label, float]) -> float:
    """The mean value of the label by the votes of the first prompt; the middle where all of these failed."""
    [(_, value)] = expect_values(scorer, [judgment], values)
    return value


def expect_values(
    scorer: Scorer, judgments: Iterable[Judgment], values: Mapping[Label, float]
) -> Iterator[tuple[Judgment, float]]:
    """`expect_value` of each of many judgments."""
    worth = np.array([values[label] for label in scorer.task.labels])
    middle = float(worth.mean())
    for judgment, votes in first_shares(scorer, judgments):
        shares = votes.sum(axis=0)
        mass = shares.sum()
        yield judgment, float(shares @ worth / mass) if mass > 0 else middle


def first_shares(scorer: Scorer, judgments: Iterable[Judgment]) -> Iterator[tuple[Judgment, FloatArray]]:
    """Each of many judgments with the shares (k, c) that the votes of its first prompt give the labels."""
    left = iter(judgments)
    while chunk := list(islice(left, CHUNK)):
        votes = [_first_votes(scorer.task, row) for row in chunk]
        shares = scorer.shares(np.concatenate(votes)[None])[0]
        end = 0
        for row, own in zip(chunk, votes, strict=True):
            start, end = end, end + len(own)
            yield row, shares[start:end]


def _first_votes(task: Task, judgment: Judgment) -> FloatArray:
    """The votes (k, c) of the first prompt."""
    if not judgment.votes:
        return np.zeros((1, len(task.labels)))
    first = judgment.votes[0].exemplar_set
    return vote_array(task, [vote for vote in judgment.votes if vote.exemplar_set == first])


def tier_reached(
    certificate: Certificate, judged: Judged, policy_of: Mapping[str, Policy | None], scorer: Scorer
) -> list[int]:
    """The deepest tier that judges each of these certification rows: the last, without a policy."""
    if not policy_of:
        return []
    none = Policy((0.0,) * len(certificate.judges), pooled=False)
    policies = [policy or none for policy in policy_of.values()]
    own = scorer.read([binding.judge for binding in certificate.judges], list(policy_of), judged)
    stack, pooled = stack_of(certificate), np.array([policy.pooled for policy in policies])
    together = own if stack is None else stacked_scores(stack, own)
    votes = Votes(*(np.where(pooled[:, None], *two) for two in zip(together, own, strict=True)))
    limits = np.array([[np.inf if tau is None else tau for tau in policy.thresholds] for policy in policies])
    last = limits.shape[1] - 1 - np.isfinite(limits)[:, ::-1].argmax(axis=1)
    tier = decide(limits, votes.scores, votes.labels)
    trusted = np.array([policy is not None for policy in policy_of.values()])
    return [int(each) for each in np.where(trusted & (tier >= 0), tier, last)]


def predictions(run: Run, values: Mapping[Label, float], tier: int = -1) -> Numbers:
    """The mean value that the deepest `tier`, or another one, expects of every judged item, by item id.

    The votes are read once, and the result is kept with those of a run folder.
    """
    memo: dict[object, Numbers] = getattr(run.judgments, "memo", {})
    key = "predictions", tuple(values.items()), tier
    if key not in memo:
        scorer = Scorer.of(run.header.certificate)
        names = [binding.judge for binding in run.header.certificate.judges]
        asked = np.full(len(run.items), -1, np.int16)
        for place, decision in placed_decisions(run):
            if decision.trail:
                asked[place] = names.index(decision.trail[tier].judge)
        expected, read = np.where(asked < 0, np.nan, 0.0), deque[int]()

        def those_asked() -> Iterator[Judgment]:
            for place, row in placed_judgments(run):
                if asked[place] >= 0 and names[asked[place]] == row.judge:
                    read.append(place)
                    yield row

        for _, value in expect_values(scorer, those_asked(), values):
            expected[read.popleft()] = value
        memo[key] = Numbers(run.items, expected)
    return memo[key]


def fresh_items(run: Run) -> Chosen:
    """The ids of judged items other than those whose labels made the certificate, which count by these."""
    judged = Chosen.of(run.items, (place for place, row in placed_decisions(run) if row.trail))
    return Chosen(run.items, judged.mask & ~mask_of(used_rows(run), run.items))


def used_rows(run: Run) -> set[str]:
    """The ids of rows whose labels made the certificate."""
    roles = run.header.certificate.roles
    return {item_id for role in ("certify", "exemplars", "dev") for item_id in roles.get(role, ())}
