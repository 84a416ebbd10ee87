"""Which items a claim is about: what is left out of it, which verdict is meant where items are clustered."""

from collections import Counter
from collections.abc import Sequence
from statistics import median_low

from trustescalate.records import Certificate, Clusters, Item


def outside_clause(certificate: Certificate) -> str:
    """What the claim leaves out, with counts: items that everybody skips, or that most call a tie."""
    labelled, clauses = certificate.n, list[str]()
    if certificate.batch is not None:
        return ""
    if certificate.task.ties == "drop":
        labelled += certificate.dropped_ties
    if certificate.task.skips == "outside":
        labelled += certificate.skipped
        clauses.append(
            f"not everybody skips ({certificate.skipped:,} of {labelled:,} labelled rows were skipped by "
            "everybody, and are outside the claim)"
        )
    if certificate.task.ties == "drop":
        clauses.append(
            f"people do not call a tie ({certificate.dropped_ties:,} of {labelled:,} labelled rows were "
            "called a tie by more people than prefer either response, and are outside the claim)"
        )
    return f", among items that {' and that '.join(clauses)}" if clauses else ""


def cluster_clause(certificate: Certificate, items: Sequence[Item]) -> str:
    """What the claim adds on clusters: which verdict is meant, how many clusters there are, and how large."""
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
    """Whether the claim is about an item of a cluster drawn at random, whatever the size of the cluster."""
    given = certificate.clusters
    return certificate.batch is None and (given is None or given.test == "one_per_cluster")


def cluster_lines(certificate: Certificate, items: Sequence[Item]) -> tuple[str, ...]:
    """How large clusters are, of the labelled rows and of a run's items, and what counts once."""
    given = certificate.clusters
    if given is None:
        return ()
    unit = (
        "cluster counts once, however many items it has"
        if given.test == "one_per_cluster"
        else "item counts once"
    )
    line = (
        f"Clusters are made by {given.by}. The {given.rows:,} labelled rows come in {given.count:,} clusters "
        f"of {spread(given.sizes, 'row')}."
    )
    if items:
        sizes = cluster_sizes(items)
        seen = spread(spread_of(sizes), "item")
        line += f" The {len(items):,} items of the run come in {len(sizes):,}, of {seen}."
    return (f"{line} In the claim each {unit}.",)


def cluster_banner(certificate: Certificate, items: Sequence[Item]) -> str:
    """What nobody may overlook where clusters differ in size, or are larger than was said; else empty."""
    run = spread_of(cluster_sizes(items))
    given = _clusters(certificate, run)
    if given is None:
        return ""
    seen = spread(given.sizes, "labelled row")
    seen += f"; in this run {spread(run, 'item')}" if items else ""
    if given.test == "one_per_cluster":
        if given.sizes[0] == given.sizes[2] and run[0] == run[2]:
            return ""
        return (
            f"Clusters differ in size ({seen}), and each counts once: this is no statement on the share of "
            "all released verdicts, where large clusters count more. To test that, set [guarantee] clusters "
            '= "row_weighted".'
        )
    if given.largest is None or run[2] <= given.largest:
        return ""
    return (
        f"A cluster of this run has {run[2]:,} items, and largest_cluster = {given.largest:,} was to bound "
        "all: nothing is guaranteed about clusters that are larger."
    )


def _clusters(certificate: Certificate, run: tuple[int, int, int]) -> Clusters | None:
    """The certificate's clusters; where no labelled row shared one and a run's items do, each row was one."""
    if certificate.clusters is not None or run[2] == 1:
        return certificate.clusters
    return Clusters(certificate.n, None, "one_per_cluster", rows=certificate.n)


def cluster_sizes(items: Sequence[Item]) -> list[int]:
    """How many items each cluster has; an item without a group is one."""
    groups = Counter(item.group for item in items if item.group is not None)
    return sorted([*groups.values(), *(1 for item in items if item.group is None)])


def spread_of(sizes: Sequence[int]) -> tuple[int, int, int]:
    """The smallest size, the median and the largest; of nothing, those of single items."""
    return (min(sizes), median_low(sizes), max(sizes)) if sizes else (1, 1, 1)


def spread(sizes: tuple[int, int, int], unit: str) -> str:
    """Say sizes in words: the smallest, the largest and the median."""
    least, middle, most = sizes
    if least == most:
        return f"{least:,} {unit}{'' if least == 1 else 's'} each"
    return f"{least:,} to {most:,} {unit}s, {middle:,} at the median"
