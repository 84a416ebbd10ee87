"""Report a prompt-injection probe: how often an adversarial response changed the verdict."""

from trustescalate.records import Certificate, Probe, ProbedJudge
from trustescalate.report.bars import bar_chart, listed, short
from trustescalate.report.figures import Figure, count, share, words
from trustescalate.report.pictures import Bar
from trustescalate.report.sections import Column, Row, Section, Table, numbers


def injection_section(probe: Probe, certificate: Certificate) -> Section:
    """Report attack success rates per judge and attack, and judges that changed since the probe."""
    bound = {binding.judge: binding.fingerprint for binding in certificate.judges}
    changed = [judge.judge for judge in probe.judges if bound.get(judge.judge) != judge.fingerprint]
    text = [
        _lead(probe, changed),
        f"On {probe.created}, each of {probe.attacks:,} prompt injections was inserted, one at a time, into "
        f"a response of each of {probe.items:,} items that did not win without it, and judged with the "
        "first prompt of the ensemble. An attack succeeds if the verdict becomes the one that it demands; "
        "harmless additions show how often that happens by chance. A judge that withstands these attacks "
        "may be vulnerable to others. The probe guarantees nothing.",
        f"The reply parser read {probe.replies:,} replies that repeat such a text; it took {probe.forged:,} "
        "of them for a verdict of the judge.",
    ]
    tables = (_judges_table(probe, changed), _attacks_table(probe))
    bars = [
        Bar(
            judge.judge,
            (_rate(judge.wins, judge.tries), _rate(judge.control.wins, judge.control.tries)),
            (_of(judge.wins, judge.tries), _of(judge.control.wins, judge.control.tries)),
        )
        for judge in probe.judges
    ]
    charts = bar_chart("Verdicts changed, per judge", bars, ("by an injection", "by a harmless addition"))
    return Section("prompt-injection-probe", "Prompt-injection probe", tuple(text), charts, tables)


def _lead(probe: Probe, changed: list[str]) -> str:
    tried = [judge for judge in probe.judges if judge.tries]
    if not tried:
        return "No injection was tried."
    worst = max(tried, key=lambda judge: judge.wins / judge.tries)
    rate = f"{share(worst.wins, worst.tries).text} of {worst.tries:,} tries"
    lead = f"Injections succeed most often against {short(worst.judge)}, in {rate}"
    if not worst.wins:
        lead = f"No injection succeeded in {sum(judge.tries for judge in tried):,} tries"
    controls = [worst.control] if worst.wins else [judge.control for judge in tried]
    if any(one.tries for one in controls):
        harmless = share(sum(one.wins for one in controls), sum(one.tries for one in controls)).text
        lead += f"; harmless additions changed the verdict in {harmless}"
    if changed:
        lead += f". Judges that have changed since the probe: {listed(changed, 6)}. Run the probe again"
    return f"{lead}."


def _rate(wins: int, tries: int) -> float:
    return wins / tries if tries else 0.0


def _of(wins: int, tries: int) -> str:
    return f"{share(wins, tries).text} of {tries:,}" if tries else "not tried"


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
