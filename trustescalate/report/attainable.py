"""Report what rows that certified nothing could have had, and what to do next."""

import shlex
from collections.abc import Callable, Sequence

from trustescalate.calibration.attainable import Attainable, Attained
from trustescalate.records import Certificate
from trustescalate.report import figures
from trustescalate.report.certificate_figures import INTERVAL
from trustescalate.report.figures import Figure, missing, share, words
from trustescalate.report.sections import Section, pairs_table
from trustescalate.report.terminal import table_lines
from trustescalate.stats.planning import label_floor

AFTER_LOOKING = (
    "These levels were chosen after looking at the labels: no guarantee; certify one of them on fresh labels"
)
MOST_ROWS = 5_000
"""A queue of more rows than this is no next step."""
Command = Callable[..., Sequence[str]]
"""Completes the words of a command, as with the name of the configuration."""


def attainable_section(seen: Attainable, certificate: Certificate) -> Section:
    """Make the section of a report: the figures, and three next commands."""
    table = pairs_table("What these rows could have had", ("What", "Figure"), _facts(seen, certificate))
    steps = ", then ".join(f"`{text}`" for text in _commands(seen, certificate, _plain))
    text = (f"{AFTER_LOOKING}. Looking spends nothing and certifies nothing.", f"Next: {steps}.", *_few(seen))
    return Section("what-could-be-had", "What could be had without this certificate", text, tables=(table,))


def attainable_lines(seen: Attainable, certificate: Certificate, command: Command) -> list[str]:
    """Lay out the figures and the next commands for a terminal."""
    facts = (
        (name, figure.note if figure.value is None else figure.text)
        for name, figure in _facts(seen, certificate)
    )
    lines = [f"{AFTER_LOOKING}.", *table_lines(("", ""), facts, "<<")[1:], *_few(seen)]
    return [*lines, *(f"next: `{text}`" for text in _commands(seen, certificate, command))]


def _plain(name: str, *rest: str) -> Sequence[str]:
    return ["trustescalate", *name.split(), *rest]


def _facts(seen: Attainable, certificate: Certificate) -> list[tuple[str, Figure]]:
    judges = [seal.judge for seal in certificate.judges]
    lines = [(f"Smallest α of {judges[-1]} alone", _level(seen.last))]
    if len(judges) > 1:
        lines.append(("Smallest α of the cascade", _level(seen.cascade)))
    if certificate.group_by is None and certificate.claim == "population":
        lines.append((f"Fresh labels for α = {certificate.alpha:g}", _needed(seen)))
    if seen.best is not None:
        best = seen.best
        agreed = f"{best.judge} agrees on {share(best.agreements, best.n).text} of {best.n:,} rows"
        limits = f"{INTERVAL} {figures.interval(*best.interval)}"
        lines.append(("Best single judge", words(f"{agreed} ({limits}, of this judge alone)")))
    return lines


def _level(level: Attained | None) -> Figure:
    if level is None:
        return missing("no α below 0.5 would pass")
    kept, wrong = share(level.accepted, level.rows).text, share(level.lost, level.accepted).text
    return Figure(level.alpha, f"{level.alpha:g} (releases {kept} of the rows, {wrong} of these wrong)")


def _needed(seen: Attainable) -> Figure:
    if seen.needed is None:
        return missing("no number of labels would do at the rates seen: better judges, or a larger α")
    unit = "clusters" if seen.clusters else "rows"
    return Figure(seen.needed, f"about {seen.needed:,} {unit}, for a chance of 80 %")


def _few(seen: Attainable) -> list[str]:
    """Say what is missing for the queue of the second command."""
    if seen.free:
        return []
    return [
        "Every item of [data], or one of its cluster, is labelled: bring fresh items into [data] items first."
    ]


def _commands(seen: Attainable, certificate: Certificate, command: Command) -> list[str]:
    level, alpha = seen.cascade, certificate.alpha
    guess = ["--disagreement", f"{alpha / 2:.3g}", "--coverage", "0.7"]
    if level is not None and level.lost < level.alpha * level.accepted:
        alpha = level.alpha
        wrong, kept = level.lost / level.accepted, level.accepted / level.rows
        guess = ["--disagreement", f"{wrong:.3g}", "--coverage", f"{max(kept, 0.001):.3g}"]
    rows = seen.needed
    if rows is None or rows > MOST_ROWS:
        rows = 3 * label_floor(alpha, certificate.delta)
    lines = [
        ("run", "--uncertified"),
        ("label queue", "--for", "calibration", "--rows", str(min(rows, seen.free) if seen.free else rows)),
        ("plan", "--alpha", f"{alpha:g}", *guess),
    ]
    if certificate.claim == "batch":
        del lines[1]
    return [shlex.join(command(name, *rest)) for name, *rest in lines]
