"""Read, write and check region.json: the region that certification rows are drawn from.

`label queue --region` lays the path out on a pilot, keeps the policies whose expected coverage is small, and
draws rows that some of them accept. `calibrate` must test the same policies, so the file holds them, with
the roles that stay, and the unlabelled items that were judged for the draw: on these coverage is counted. The
statistics are `stats.region`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from trustescalate.calibration.protocol import Protocol, RegionRule
from trustescalate.calibration.scoring import pooling_record
from trustescalate.config import Config
from trustescalate.data.dataset import Dataset
from trustescalate.errors import CertificateMismatch, ConfigError, DataError
from trustescalate.records import STRICT, Json, PolicyTest, Pooling, Region
from trustescalate.records.bounded import read_whole
from trustescalate.records.item_columns import places_of
from trustescalate.records.jsonl import decode, digest, encode, to_python, write_atomically
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import evaluate
from trustescalate.stats.pooling import Votes
from trustescalate.stats.region import coverage_lower_limits, in_region

REGION = "region.json"
REGION_SCHEMA = 1
ANEW = (
    "undo the change; or start again: move region.json away, and add rows that were not drawn from that "
    "region"
)


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """The policies that the region is made of, sub-path after sub-path, as a `stats.paths.Plan` holds them.

    A threshold of None is infinite: the tier never accepts.
    """

    parts: tuple[tuple[tuple[float | None, ...], ...], ...]
    shares: tuple[float, ...]
    coverage: tuple[tuple[float, ...], ...]
    readings: tuple[Pooling | None, ...]
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT

    @classmethod
    def of(cls, plan: Plan) -> "RegionPlan":
        """A plan as a record, to the last bit."""
        return cls(
            tuple(
                tuple(tuple(float(tau) if np.isfinite(tau) else None for tau in policy) for policy in part)
                for part in plan.parts
            ),
            tuple(map(float, plan.shares)),
            tuple(tuple(map(float, part)) for part in plan.coverage),
            tuple(None if stack is None else pooling_record(stack) for stack in plan.readings),
        )


@dataclass(frozen=True, slots=True)
class RegionFile:
    """region.json. Policies were kept up to an expected coverage of `most`.

    `protocol` is a digest of all that the region rests on, `roles` the ids of the items in the roles that
    stay, the pilot among them, of which `inside` lie in the region. `candidates` are the ids of the first
    items that were judged for the draw, as many as were fixed before it.
    """

    schema: int
    created: str
    most: float
    protocol: str
    roles: Mapping[str, tuple[str, ...]]
    inside: int
    plan: RegionPlan
    candidates: tuple[str, ...]
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT

    @property
    def share(self) -> float:
        """The share of the pilot that lies in the region."""
        return self.inside / len(self.roles["pilot"])

    @property
    def rule(self) -> RegionRule:
        """The rule that a protocol holds."""
        return RegionRule(self.most, self.share, digest(asdict(self.plan)), self.candidates)


def read_region(folder: Path) -> RegionFile | None:
    """The region in place, None where there is none. Raises DataError for a file that cannot be read."""
    path = folder / REGION
    try:
        region = decode(read_whole(path), RegionFile)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError([f"{path}: {error}"], "restore the file: rows were drawn by it") from None
    if region.schema != REGION_SCHEMA or not region.roles.get("pilot") or not region.inside:
        raise DataError([f"{path}: not a region that this version writes"], "restore the file")
    return region


def write_region(folder: Path, region: RegionFile) -> None:
    """Write region.json."""
    write_atomically(folder / REGION, encode(region) + b"\n")


def applied_region(config: Config, data: Dataset) -> RegionFile | None:
    """The region that labelled rows were drawn from; None where no row was.

    Raises ConfigError for a configuration that has no proof with a region, and DataError where region.json,
    or an item that it names, is gone.
    """
    if not data.in_region:
        return None
    must_allow_region(config)
    region = read_region(config.folder)
    path = config.folder / REGION
    if region is None:
        why = f"{path}: is gone, and {len(data.in_region)} labelled rows were drawn from its region"
        raise DataError([why], 'restore it, or take the rows with "purpose": "region" out of the annotations')
    known = places_of(data.items)
    gone = [item_id for item_id in (*region.candidates, *region.roles["pilot"]) if item_id not in known]
    if gone:
        raise DataError(
            [f"{path}: {len(gone)} items that it names are not in [data] items, as {gone[0]!r}"],
            "restore them: coverage is counted on them",
        )
    return region


def must_allow_region(config: Config) -> None:
    """Raise ConfigError where rows from a region have no proof, saying which key forbids them."""
    guarantee, groups = config.guarantee, config.groups
    for refused, name in (
        (guarantee.claim == "batch", '[guarantee] claim = "batch"'),
        ("last_judge" in config.fitted_on, '[[judges]] fit_on = "last_judge"'),
        (guarantee.path == "tierwise", '[guarantee] path = "tierwise"'),
        (
            guarantee.cluster_test != "one_per_cluster",
            f'[guarantee] cluster_test = "{guarantee.cluster_test}"',
        ),
        (guarantee.weight is not None, "[guarantee] weight"),
        (guarantee.interim is not None, "[guarantee] interim"),
        (groups.by is not None, "[groups] by"),
        (groups.evidence is not None, "[groups] evidence"),
    ):
        if refused:
            raise ConfigError(
                f"rows drawn from a region have no test with {name}",
                "leave out --region, and label no row from a region; or remove the key",
            )


def decided(protocol: Protocol) -> str:
    """A digest of what the region rests on except pilot and dev rows: judges, scores, path and seed."""
    return digest(
        to_python([protocol.task, protocol.rule.path, protocol.estimator, protocol.judges, protocol.seed])
    )


def must_follow_region(region: RegionFile, protocol: Protocol) -> None:
    """Raise CertificateMismatch where something was changed that the region rests on."""
    if decided(protocol) != region.protocol:
        raise CertificateMismatch(
            f"{REGION}: the judges, their examples, the scores, the path or the seed were changed since rows "
            "were drawn from the region",
            ANEW,
        )


def must_be_laid_out(rule: RegionRule, plan: Plan) -> None:
    """Raise CertificateMismatch unless the policies to test are those that the region is made of."""
    if digest(asdict(RegionPlan.of(plan))) != rule.plan:
        raise CertificateMismatch(
            f"{REGION}: the pilot, or the dev rows, give other policies than when the rows were drawn", ANEW
        )


def recount(
    protocol: Protocol, plan: Plan, tests: Sequence[PolicyTest], votes: Votes, costs: FloatArray
) -> tuple[int | None, float | None, tuple[PolicyTest, ...]]:
    """The tests with coverage and cost on unlabelled rows (k, m), the test that is chosen by these, and a
    lower limit on its coverage.

    The limits of all tested policies hold at once, since labels decide which of them is chosen.
    """
    blank = np.full(len(votes.scores), -1)
    counted = evaluate(plan.policies, *plan.read(votes), blank, plan.spread(costs))
    recounted = tuple(
        replace(test, seen=int(seen), cost=float(cost))
        for test, seen, cost in zip(tests, counted.accepted, counted.cost, strict=True)
    )
    rejected = np.array([test.rejected for test in tests])
    chosen = protocol.rule.choose(rejected, counted.accepted, counted.cost, len(blank))
    lower = coverage_lower_limits(counted.accepted, len(blank), protocol.level)
    return chosen, None if chosen is None else float(lower[chosen]), recounted


def region_record(rule: RegionRule, plan: Plan, votes: Votes, uniform: int, tested: int) -> Region:
    """The certificate's record of the region: all but `uniform` of the `tested` rows were drawn from it."""
    return Region(rule.most, uniform, tested - uniform, len(votes.scores), int(in_region(plan, votes).sum()))
