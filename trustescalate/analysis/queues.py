"""Queue items for annotators: what a run abstained on, or a random sample for the certificate."""

from collections.abc import Collection

from trustescalate.calibration.prepare import draw_batch
from trustescalate.calibration.region import read_region
from trustescalate.cascade.run_folder import load_run
from trustescalate.config import Config
from trustescalate.data.annotation.queue import Queued, load_labels, queue_run, queue_sample
from trustescalate.records.progress import Hooks


def queue_abstained(
    config: Config, hooks: Hooks, run_id: str | None = None, chosen: Collection[str] = ()
) -> Queued:
    """Queue what a run abstained on, or `chosen` items of it, by default of the latest (`queue_run`)."""
    data = load_labels(config)
    return queue_run(config, hooks, data, load_run(config.folder, data, run_id), chosen)


def queue_calibration(config: Config, hooks: Hooks, rows: int | None = None) -> Queued:
    """Queue rows for the certificate, drawn at random (`data.annotation.queue.queue_sample`)."""
    region, data = read_region(config.folder), load_labels(config)
    pilot = () if region is None else region.roles["pilot"]
    return queue_sample(config, hooks, data, rows, draw_batch(config, data), pilot)
