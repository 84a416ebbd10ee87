"""Add to a run what its items and the certification rows show together: means, score drift, leaderboard."""

from dataclasses import replace

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
    """The run with its estimates; nothing of them is stored.

    A batch was counted: there is no population that it could tell more about.
    """
    certificate = run.header.certificate
    if certificate.batch is not None:
        return run
    free = independent_items(run.items, data.items, used_items(certificate), certificate.seed)
    run = replace(run, independent=free)
    judged = certificate_votes(config.folder, certificate)
    if judged is None:
        return replace(run, overall=Overall(None, "the votes that the certificate was made from are gone"))
    items = {item.id: item for item in (*data.items, *run.items)}
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
