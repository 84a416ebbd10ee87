"""Add estimates to a run: of its items, of the population, score drift and the leaderboard."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trustescalate.analysis.baseline import open_baseline
from trustescalate.analysis.criteria import criteria_estimates
from trustescalate.analysis.criteria_product import criteria_product
from trustescalate.analysis.leaderboard import standings
from trustescalate.analysis.product import product as one_product
from trustescalate.analysis.shift_check import tier_shifts
from trustescalate.calibration.files import certificate_votes
from trustescalate.calibration.population import Groups, Judged, overall
from trustescalate.cascade.run_folder import used_items
from trustescalate.config import Config
from trustescalate.data.clusters import independent_items
from trustescalate.data.dataset import Dataset
from trustescalate.errors import TrustEscalateError
from trustescalate.records import Item, Overall, Product, Run
from trustescalate.records.columns import Codes
from trustescalate.records.item_columns import items_by_id, joined_groups, joined_values
from trustescalate.records.item_fields import value_of, values_of


def with_estimates(config: Config, run: Run, data: Dataset, baseline: str | None = None) -> Run:
    """Return the run with its estimates, which are never stored.

    `baseline` names a run to compare with, and an error of it is raised; without one [gate] baseline is
    taken, and an error becomes the reason why there is no change. A batch has no population.
    """
    judged = _votes(config.folder, run)
    run = _with_checks(run, data, judged)
    if run.header.certificate.batch is None:
        run = _with_population(config, run, data, judged)
    return replace(run, product=_product(config, run, data, baseline))


def _product(config: Config, run: Run, data: Dataset, baseline: str | None) -> Product:
    product = criteria_product if config.criteria else one_product
    name = config.gate.baseline if baseline is None else baseline
    if name is None:
        return product(config, run, data)
    try:
        opened = open_baseline(config, name, run, data)
        votes = _votes(opened.folder, opened.run)
        return product(config, run, data, (_with_checks(opened.run, opened.data, votes), opened.data))
    except TrustEscalateError as error:
        if baseline is not None:
            raise
        return replace(product(config, run, data, reason=str(error)), baseline=name)


def _votes(folder: Path, run: Run) -> Judged | None:
    if run.header.certificate.batch is not None:
        return None
    return certificate_votes(folder, run.header.certificate)


def _with_checks(run: Run, data: Dataset, judged: Judged | None) -> Run:
    """Return the run with what its limits rest on: independent items, and the check for drift."""
    certificate = run.header.certificate
    if certificate.batch is not None:
        return run
    run = replace(
        run, independent=independent_items(run.items, data.items, used_items(run.header), certificate.seed)
    )
    if judged is None:
        return run
    return replace(run, shift=tier_shifts(run, judged, joined_groups(data.items, run.items)))


def _with_population(config: Config, run: Run, data: Dataset, judged: Judged | None) -> Run:
    if judged is None and run.uncertified:
        judged = {}  # its labels are of its own items
    if judged is None:
        return replace(run, overall=Overall(None, "the recorded votes of the certificate are missing"))
    by, table = config.data.strata, config.leaderboard
    if config.criteria:
        return replace(run, criteria=criteria_estimates(config, run, judged, data.annotations, data.items))
    groups = joined_groups(data.items, run.items)
    strata = None if by is None else _kinds(data.items, run.items, by)
    items = joined_values(items_by_id(data.items), run.items, run.items)
    board = standings(run, judged, data.annotations, items, table, strata) if table.models else None
    return replace(run, overall=overall(run, judged, data.annotations, groups, strata), standings=board)


def _kinds(first: Sequence[Item], second: Sequence[Item], by: str) -> Groups:
    """The value of a field of each item of both that has one, by id."""
    return joined_values(values_of(first, by), second, Codes(value_of(item, by) for item in second))
