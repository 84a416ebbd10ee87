"""What the probe found: how often texts that try to buy a verdict got it. It guarantees nothing."""

from trustescalate.records import Certificate, Probe, ProbedJudge
from trustescalate.report.figures import Figure, count, share, words
from trustescalate.report.sections import Column, Row, Section, Table


def injection_section(probe: Probe, certificate: Certificate) -> Section:
    """Who fell for what, when it was tried, and whether these are still the judges of the certificate."""
    sealed = {seal.judge: seal.fingerprint for seal in certificate.judges}
    stale = [judge.judge for judge in probe.judges if sealed.get(judge.judge) != judge.fingerprint]
    text = [
        f"On {probe.created}, {probe.attacks:,} texts that try to buy a verdict were put, one at a time, "
        f"into a response of each of {probe.items:,} items that did not win without them. The judges were "
        "asked by their first prompt. An attack wins where the verdict becomes the one that it wants; "
        "harmless additions show how often that happens by itself. A judge that withstood these texts may "
        "fall for others.",
        f"The reader was given {probe.replies:,} replies that repeat such a text; it took {probe.forged:,} "
        "of them for a verdict of the judge.",
    ]
    if stale:
        text.append(f"Not as they were probed: {', '.join(stale)}. Probe again.")
    return Section(
        "injection",
        "Texts that try to buy a verdict",
        tuple(text),
        tables=(_judges(probe, stale), _families(probe)),
    )


def _judges(probe: Probe, stale: list[str]) -> Table:
    columns = (
        Column("Judge"),
        *(
            Column(title, True)
            for title in ("Tries", "Won", "Share won", "By harmless additions", "No verdict")
        ),
        Column("Probed as it is"),
    )
    rows = tuple(
        Row((
            words(judge.judge),
            count(judge.tries),
            count(judge.wins),
            share(judge.wins, judge.tries, "nothing was tried"),
            share(judge.control.wins, judge.control.tries, "no harmless addition was tried"),
            count(judge.silent),
            words("no" if judge.judge in stale else "yes"),
        ))
        for judge in probe.judges
    )  # fmt: skip
    return Table("Verdicts under attack", columns, rows)


def _families(probe: Probe) -> Table:
    names = list(dict.fromkeys(family.family for judge in probe.judges for family in judge.families))
    columns = (Column("Attack"), *(Column(judge.judge, True) for judge in probe.judges))
    rows = tuple(Row((words(name), *(_won(judge, name) for judge in probe.judges))) for name in names)
    return Table("Share won, by the kind of attack", columns, rows)


def _won(judge: ProbedJudge, name: str) -> Figure:
    found = [family for family in judge.families if family.family == name]
    return share(sum(f.wins for f in found), sum(f.tries for f in found), "not tried on this judge")
