"""Add population estimates to a run: means over all items, score drift and the leaderboard."""

from dataclasses import replace

from trustescalate.analysis.criteria import criteria_estimates
from trustescalate.analysis.leaderboard import standings
from trustescalate.analysis.score_drift import score_shift
from trustescalate.calibration.files import certificate_votes
from trustescalate.calibration.population import overall
from trustescalate.cascade.run_folder import used_items
from trustescalate.config import Config
from trustescalate.data.clusters import independent_items
from trustescalate.data.dataset import Dataset
from trustescalate.records import Overall, Run
from trustescalate.records.item_fields import value_of


def with_estimates(config: Config, run: Run, data: Dataset) -> Run:
    """Return the run with its estimates, which are never stored; a batch has no population and none."""
    certificate = run.header.certificate
    if certificate.batch is not None:
        return run
    free = independent_items(run.items, data.items, used_items(certificate), certificate.seed)
    run = replace(run, independent=free)
    judged = certificate_votes(config.folder, certificate)
    if judged is None:
        return replace(run, overall=Overall(None, "the recorded votes of the certificate are missing"))
    items = {item.id: item for item in (*data.items, *run.items)}
    if config.criteria:
        criteria = criteria_estimates(config, run, judged, data.annotations, items)
        groups = {item.id: item.group for item in items.values()}
        return replace(run, criteria=criteria, shift=score_shift(run, judged, groups))
    groups = {item.id: item.group for item in items.values()}
    by, table = config.data.strata, config.leaderboard
    strata = None if by is None else {item.id: value_of(item, by) for item in items.values()}
    board = standings(run, judged, data.annotations, items, table, strata) if table.models else None
    return replace(
        run,
        overall=overall(run, judged, data.annotations, groups, strata),
        shift=score_shift(run, judged, groups),
        standings=board,
    )
