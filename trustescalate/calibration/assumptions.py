"""Write the assumptions that a guarantee rests on, as sentences of the certificate."""

from collections.abc import Sequence

from trustescalate.calibration.losses import whom
from trustescalate.calibration.protocol import Protocol
from trustescalate.data.labels import contested_ties, dropped_ties, skipped
from trustescalate.records import Annotation, Attempt, Clusters, InterimAnalysis, Weighting

SAME_JUDGES = "the judges stay as they are: same model, same wording, same examples"
REPLACED = (
    "the rows drawn for people are released with people's labels, which count as right: the share is of all "
    "answers on accepted items, and says less about the judges' verdicts alone"
)


def state_assumptions(protocol: Protocol) -> tuple[str, ...]:
    """State the assumptions of a protocol's guarantee, a sentence each."""
    agreement = f"agreement means agreement with {whom(protocol.task, protocol.reference)}"
    if protocol.reference == "majority":
        agreement += "; without one, any verdict counts as a disagreement"
    if protocol.claim == "expected":
        return (
            "the labelled rows and the items of a run were drawn independently from one population, one item "
            "of each cluster: they are exchangeable",
            agreement,
            SAME_JUDGES,
        )
    retested = protocol.attempt is not None and protocol.attempt.number > 1
    if protocol.claim == "batch":
        return (
            "no assumption is made on how the items arose: the rows to label were drawn from the whole batch "
            "by this tool, by a seed that was chosen before any label was seen",
            agreement,
            "nothing is guaranteed about items outside the batch",
            *((_describe_attempt(protocol.attempt),) if protocol.attempt is not None and retested else ()),
            *((REPLACED,) if protocol.release_human_labels else ()),
        )
    given = cluster_record(protocol)
    sentences = [_describe_draw(protocol, given), agreement, SAME_JUDGES]
    if protocol.tierwise:
        sentences.append(
            "each judge after the first was tested on the rows that the judges before it left over, as in "
            "the paper: its proof takes their thresholds as given"
        )
    if given is None and protocol.grouped:
        sentences.append(
            "no two labelled rows are of one cluster; of larger ones one row each would be tested"
        )
    if protocol.weighting is not None:
        sentences.append(_describe_weighting(protocol.weighting))
    if protocol.interim is not None:
        sentences.append(_describe_interim(protocol.interim))
    elif protocol.attempt is not None and retested:
        sentences.append(_describe_attempt(protocol.attempt))
    return tuple(sentences)


def state_exclusions(protocol: Protocol, notes: Sequence[Annotation]) -> tuple[str, ...]:
    """State how skipped rows and dropped ties count, with their numbers."""
    task, sentences, labelled = protocol.task, list[str](), len({note.item_id for note in notes})
    passed, tied, contested = skipped(notes), dropped_ties(task, notes), contested_ties(task, notes)
    if task.skips == "outside":
        sentences.append(
            f"items that everybody skips are outside the claim, as {passed:,} of {labelled:,} labelled rows "
            "are"
        )
    elif passed:
        sentences.append(
            f"an item that everybody skips counts as a disagreement, as {passed:,} of {labelled:,} labelled "
            "rows do"
        )
    if task.ties == "drop" and protocol.claim == "batch":
        sentences.append(
            "an item that more people call a tie than prefer either response counts as a disagreement, as "
            f"{tied:,} of {labelled:,} labelled rows do"
        )
    elif task.ties == "drop":
        sentences.append(
            "items that more people call a tie than prefer either response are outside the claim, as "
            f"{tied:,} of {labelled:,} labelled rows are; elsewhere those who call a tie are left out, on "
            f"{contested:,} rows"
        )
    return tuple(sentences)


def cluster_record(protocol: Protocol) -> Clusters | None:
    """The clusters that the certification rows were drawn from; None where no labelled row shares one."""
    if protocol.drawn_from is not None or protocol.clusters is None:
        return protocol.drawn_from
    return Clusters(len(protocol.clusters.rows), protocol.clusters.largest)


def _describe_draw(protocol: Protocol, given: Clusters | None) -> str:
    if protocol.region is not None:
        return (
            f"{len(protocol.roles['region']):,} certification rows were drawn independently from the items, "
            "of the same population as those to be judged, that a tested policy accepts, and "
            f"{len(protocol.roles['certify']):,} from all of them; the policies, of expected coverage at "
            f"most {protocol.region.most:.2f}, were fixed before these rows were labelled"
        )
    if given is not None:
        return _describe_clusters(given)
    if protocol.groups is not None:
        return (
            f"the certification rows of each value of {protocol.groups.by} were drawn independently from the "
            "same population as the items of that value to be judged; how common the values are may change"
        )
    return (
        "the certification rows were drawn independently from the same population as the items to be judged"
    )


def _describe_clusters(given: Clusters) -> str:
    drawn = "whole clusters were drawn independently from the same population as the items to be judged"
    if given.test == "one_per_cluster":
        return f"{drawn}; one row of each was tested, so each cluster counts once, however many rows it has"
    bound = (
        f"{drawn}, all rows that are labelled there or a choice of them that looked at no verdict; no "
        f"cluster there has more than {given.largest} rows"
    )
    if given.test == "betting":
        return f"{bound}, and a row of a large cluster counts as much as any other"
    return (
        f"{bound}; one row of each was kept with probability rows / {given.largest}, {given.kept:,} of "
        f"{given.count:,}, so a row of a large cluster counts as much as any other"
    )


def _describe_weighting(given: Weighting) -> str:
    kept = (
        f"the population to be judged has weights {given.by} against the labelled rows, nowhere above "
        f"{given.bound:g}: {given.kept:,} of {given.offered:,} rows were kept with probability weight / bound"
    )
    if given.source == "known":
        return f"{kept}; the weights are exact"
    return f"{kept}; the weights were estimated, so the guarantee is approximate, as good as they are"


def _describe_interim(interim: InterimAnalysis) -> str:
    return (
        f"this is interim analysis {interim.number} of {len(interim.sizes)}, and may spend "
        f"{interim.share:g} of delta; the number of rows of every interim analysis was fixed before the "
        "first label"
    )


def _describe_attempt(attempt: Attempt) -> str:
    return (
        f"this is test {attempt.number} of these labels, and may spend {attempt.share:.3g} of delta; whether "
        "it was made may depend on anything, what it tests, and on how many rows, on none of their labels"
    )
