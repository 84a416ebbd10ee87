"""Report what rows that certified nothing could have had, and what to do next."""

import shlex
from collections.abc import Callable, Sequence
from math import ceil

from trustescalate.calibration.attainable import Attainable, Attained
from trustescalate.records import Certificate
from trustescalate.report import figures
from trustescalate.report.certificate_figures import INTERVAL
from trustescalate.report.figures import Figure, missing, share, words
from trustescalate.report.sections import Section, pairs_table
from trustescalate.stats.planning import label_floor, labels_needed

AFTER_LOOKING = (
    "These levels were chosen after looking at the labels: no guarantee; certify one of them on fresh labels"
)
MOST_ROWS = 5_000
"""A queue of more rows than this is no next step."""
Command = Callable[..., Sequence[str]]
"""Completes the words of a command, as with the name of the configuration."""


def completed(options: Sequence[str]) -> Command:
    """Complete command lines by the options that name a configuration.

    >>> completed(("--config", "p/trustescalate.toml"))("label queue", "RUN")
    ['trustescalate', 'label', 'queue', '--config', 'p/trustescalate.toml', 'RUN']
    """
    return lambda name, *rest: ["trustescalate", *name.split(), *options, *rest]


PLAIN = completed(())


def attainable_section(seen: Attainable, certificate: Certificate, command: Command) -> Section:
    """Make the section of a report: the figures, and three next commands."""
    table = pairs_table("What these rows could have had", ("What", "Figure"), _facts(seen, certificate))
    named = "; ".join(f"`{shlex.join(line)}` {note}" for line, note in steps(seen, certificate, command))
    text = (f"{AFTER_LOOKING}. Looking spends nothing and certifies nothing.", f"Next: {named}.")
    return Section("what-could-be-had", "What could be had without this certificate", text, tables=(table,))


def attainable_lines(seen: Attainable, certificate: Certificate, command: Command) -> list[str]:
    """Lay out the figures and the next commands for a terminal."""
    facts = _facts(seen, certificate)
    width = max(len(name) for name, _ in facts)
    lines = [f"{AFTER_LOOKING}."]
    for name, figure in facts:
        lines.append(f"  {name:<{width}}  {figure.note if figure.value is None else figure.text}")
    for line, note in steps(seen, certificate, command):
        lines += [f"next: `{shlex.join(line)}`", f"      {note}"]
    return lines


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
        limits = f"{INTERVAL} of it alone: {figures.interval(*best.interval)}"
        lines.append(("Best single judge", words(f"{agreed} ({limits})")))
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


def steps(seen: Attainable, certificate: Certificate, command: Command) -> list[tuple[Sequence[str], str]]:
    """The words of the next commands, and what each is for."""
    level, alpha = seen.cascade, certificate.alpha
    guess = ["--disagreement", f"{alpha / 2:.3g}", "--coverage", "0.7"]
    if level is not None and level.lost < level.alpha * level.accepted:
        alpha = level.alpha
        guess = ["--disagreement", f"{level.lost / level.accepted:.3g}"]
        guess += ["--coverage", f"{max(level.accepted / level.rows, 0.001):.3g}"]
    rows, reached = _rows_to_draw(seen, certificate)
    fresh = f"draws fresh rows to label, for α = {reached:g}"
    if not seen.free:
        fresh += " (add items to [data] items first: all of them, or one of each cluster, have labels)"
    elif seen.free < rows:
        fresh += f"; [data] items has {seen.free:,} of the {rows:,} that this takes"
    drawn = str(min(rows, seen.free) if seen.free else rows)
    lines = [
        (("run", "--uncertified"), "estimates means and compares without a certificate"),
        (("label queue", "--for", "calibration", "--rows", drawn), fresh),
        (("plan", "--alpha", f"{alpha:g}", *guess), "says how many labels another α takes"),
    ]
    if certificate.claim == "batch":
        del lines[1]
    return [(command(*given), note) for given, note in lines]


def _rows_to_draw(seen: Attainable, certificate: Certificate) -> tuple[int, float]:
    """The fresh rows for the level that was asked for, or if these are too many for the one that passed."""
    if seen.needed is not None and seen.needed <= MOST_ROWS:
        return seen.needed, certificate.alpha
    level = seen.cascade
    if level is not None:
        rate = (level.lost + 0.5) / (level.accepted + 1)
        accepted = labels_needed(rate, level.alpha, certificate.delta)
        rows = None if accepted is None else ceil(accepted * level.rows / level.accepted)
        if rows is not None and rows <= MOST_ROWS:
            return rows, level.alpha
    return 3 * label_floor(certificate.alpha, certificate.delta), certificate.alpha
