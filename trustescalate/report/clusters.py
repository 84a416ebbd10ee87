"""State which items a claim is about: those outside it, and how clustered items count."""

from collections.abc import Sequence
from statistics import median_low

import numpy as np

from trustescalate.calibration.population import unit_codes
from trustescalate.data.item_sets import number_texts
from trustescalate.records import Certificate, Clusters, Item
from trustescalate.records.criteria import BY_CRITERION, ask_several, split_row_id
from trustescalate.records.item_columns import groups_of, ids_of

Sizes = tuple[int, int, int]
"""The smallest size of a cluster, the median and the largest."""


def outside_clause(certificate: Certificate) -> str:
    """State with counts which items are outside the claim: skipped by every annotator, or tied."""
    if certificate.batch is not None:
        return ""
    labelled, clauses, ties = certificate.n, list[str](), certificate.dropped_ties
    if certificate.task.ties == "drop":
        labelled += ties
    if certificate.task.skips == "outside":
        labelled += certificate.skipped
        clauses.append(
            f"are not skipped by every annotator ({certificate.skipped:,} of {labelled:,} labelled rows were "
            "skipped by every annotator, and are outside the claim)"
        )
    if certificate.task.ties == "drop":
        clauses.append(
            f"annotators do not call a tie ({ties:,} of {labelled:,} labelled rows were called a tie by more "
            "annotators than prefer either response, and are outside the claim)"
        )
    return f", among items that {' and that '.join(clauses)}" if clauses else ""


def cluster_clause(certificate: Certificate, items: Sequence[Item]) -> str:
    """State how clustered items count in the claim, and the number and sizes of clusters."""
    run = spread_of(cluster_sizes(items))
    given = _clusters(certificate, run)
    if given is None or max(given.sizes[2], run[2]) == 1:
        return ""
    about = f"{given.count:,} clusters by {given.by}, of {spread(given.sizes, 'labelled row')}"
    if given.test == "one_per_cluster":
        return (
            ". The share is over an item drawn at random from a cluster drawn at random, so that each "
            f"cluster counts once ({about}; one row of each was tested)"
        )
    how = "all rows were tested by betting on clusters"
    if given.test == "row_weighted":
        how = f"one row of each was kept with probability rows / {given.largest}, and tested"
    return f". Each item counts once, in a large cluster too ({about}; {how})"


def counts_clusters_once(certificate: Certificate) -> bool:
    """Whether each cluster counts once in the claim, whatever its size."""
    given = certificate.clusters
    return certificate.batch is None and (given is None or given.test == "one_per_cluster")


def cluster_lines(certificate: Certificate, items: Sequence[Item]) -> tuple[str, ...]:
    """State the cluster sizes of the labelled rows and of a run's items, and what counts once."""
    given = certificate.clusters
    if given is None:
        return ()
    line = (
        f"Clusters are defined by {given.by}. The {given.rows:,} labelled rows form {given.count:,} clusters "
        f"of {spread(given.sizes, 'row')}."
    )
    if items:
        sizes = cluster_sizes(items)
        seen = spread(spread_of(sizes), "item")
        line += f" The {len(items):,} items of the run form {len(sizes):,}, of {seen}."
    once = "cluster counts once, whatever its size" if given.test == "one_per_cluster" else "item counts once"
    return (f"{line} In the claim each {once}.",)


def cluster_banner(certificate: Certificate, items: Sequence[Item]) -> str:
    """Warn where clusters differ in size, or are larger than configured; else empty."""
    run = spread_of(cluster_sizes(items))
    given = _clusters(certificate, run)
    if given is None:
        return ""
    if given.test == "one_per_cluster":
        if given.sizes[0] == given.sizes[2] and run[0] == run[2]:
            return ""
        seen = spread(given.sizes, "labelled row") + (f"; in this run {spread(run, 'item')}" if items else "")
        text = (
            f"Clusters differ in size ({seen}), and each counts once: this is no statement on the share of "
            "all released verdicts, where large clusters count more."
        )
        if certificate.group_by == BY_CRITERION:  # [[criteria]] have no other test
            return text
        return f'{text} To test that share, set [guarantee] cluster_test = "row_weighted".'
    if given.largest is None or run[2] <= given.largest:
        return ""
    return (
        f"A cluster of this run has {run[2]:,} items, more than largest_cluster = {given.largest:,}: there "
        "is no guarantee for clusters larger than that."
    )


def _clusters(certificate: Certificate, run: Sizes) -> Clusters | None:
    """The certificate's clusters; where only a run's items are clustered, each labelled row was one."""
    if certificate.clusters is not None or run[2] == 1:
        return certificate.clusters
    return Clusters(certificate.n, None, "one_per_cluster", rows=certificate.n)


def cluster_sizes(items: Sequence[Item]) -> list[int]:
    """Size every cluster, in ascending order; an item without a cluster is one, whatever its criteria."""
    groups, ids = groups_of(items), ids_of(items)
    if not groups:
        return [1] * len(items)
    unit = unit_codes(ids, groups)
    if ask_several(items):  # an item counts once, and its rows have one group
        unit = unit[np.unique(number_texts(split_row_id(each).item_id for each in ids), return_index=True)[1]]
    sizes: list[int] = np.sort(np.unique(unit, return_counts=True)[1]).tolist()
    return sizes


def spread_of(sizes: Sequence[int]) -> Sizes:
    """Give the smallest size, the median and the largest; 1 for no sizes."""
    return (min(sizes), median_low(sizes), max(sizes)) if sizes else (1, 1, 1)


def spread(sizes: Sizes, unit: str) -> str:
    """Write the smallest, the largest and the median size as text."""
    smallest, middle, largest = sizes
    if smallest == largest:
        return f"{smallest:,} {unit}{'' if smallest == 1 else 's'} each"
    return f"{smallest:,} to {largest:,} {unit}s, median {middle:,}"
