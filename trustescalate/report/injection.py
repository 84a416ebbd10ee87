"""Report a prompt-injection probe: how often an adversarial response changed the verdict."""

from trustescalate.records import Certificate, Probe, ProbedJudge
from trustescalate.report.figures import Figure, count, share, words
from trustescalate.report.sections import Column, Row, Section, Table, numbers


def injection_section(probe: Probe, certificate: Certificate) -> Section:
    """Report attack success rates per judge and attack, and judges that changed since the probe."""
    bound = {binding.judge: binding.fingerprint for binding in certificate.judges}
    changed = [judge.judge for judge in probe.judges if bound.get(judge.judge) != judge.fingerprint]
    text = [
        f"On {probe.created}, each of {probe.attacks:,} prompt injections was inserted, one at a time, into "
        f"a response of each of {probe.items:,} items that did not win without it, and judged with the "
        "first prompt of the ensemble. An attack succeeds if the verdict becomes the one that it demands; "
        "harmless additions show how often that happens by chance. A judge that withstands these attacks "
        "may be vulnerable to others. The probe guarantees nothing.",
        f"The reply parser read {probe.replies:,} replies that repeat such a text; it took {probe.forged:,} "
        "of them for a verdict of the judge.",
    ]
    if changed:
        text.append(f"Judges that have changed since the probe: {', '.join(changed)}. Run the probe again.")
    tables = (_judges_table(probe, changed), _attacks_table(probe))
    return Section("prompt-injection-probe", "Prompt-injection probe", tuple(text), tables=tables)


def _judges_table(probe: Probe, changed: list[str]) -> Table:
    titles = ("Tries", "Successes", "Attack success rate", "With harmless additions", "No verdict")
    rows = tuple(
        Row((
            *(words(judge.judge), count(judge.tries), count(judge.wins)),
            share(judge.wins, judge.tries, "nothing was tried"),
            share(judge.control.wins, judge.control.tries, "no harmless addition was tried"),
            *(count(judge.silent), words("no" if judge.judge in changed else "yes")),
        ))
        for judge in probe.judges
    )  # fmt: skip
    columns = (Column("Judge"), *numbers(*titles), Column("Unchanged since the probe"))
    return Table("Attack success rate per judge", columns, rows)


def _attacks_table(probe: Probe) -> Table:
    names = list(dict.fromkeys(family.family for judge in probe.judges for family in judge.families))
    columns = (Column("Attack"), *numbers(*(judge.judge for judge in probe.judges)))
    rows = tuple(
        Row((words(name), *(_success_rate(judge, name) for judge in probe.judges))) for name in names
    )
    return Table("Attack success rate per type of attack", columns, rows)


def _success_rate(judge: ProbedJudge, name: str) -> Figure:
    tried = [family for family in judge.families if family.family == name]
    return share(sum(one.wins for one in tried), sum(one.tries for one in tried), "not tried on this judge")
