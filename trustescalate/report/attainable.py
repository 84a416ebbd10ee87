"""Report what rows that certified nothing could have had, and what to do next."""

import shlex
from collections.abc import Callable, Sequence
from math import ceil

from trustescalate.calibration.attainable import Attainable, Attained
from trustescalate.records import Certificate
from trustescalate.report import figures
from trustescalate.report.certificate_figures import INTERVAL
from trustescalate.report.drawings.power import reached, round_up
from trustescalate.report.figures import Figure, missing, share, words
from trustescalate.report.pictures import Power
from trustescalate.report.sections import Section, pairs_table
from trustescalate.stats.planning import label_floor, labels_needed

AFTER_LOOKING = (
    "These levels were chosen after looking at the labels: no guarantee; certify one of them on fresh labels"
)
ONLY_CLOSEST = "if only the policy that came closest were tested"
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


def attainable_section(
    seen: Attainable, certificate: Certificate, command: Command, power: Power | None = None
) -> Section:
    """Make the section of a report: the figures, and the next commands."""
    facts = _facts(seen, certificate, power)
    table = pairs_table("What these rows could have had", ("What", "Figure"), facts)
    lines = steps(seen, certificate, command, power)
    named = "; ".join(f"`{shlex.join(line)}` {note}" for line, note in lines)
    text = [f"{AFTER_LOOKING}. Looking spends nothing and certifies nothing.", f"Next: {named}."]
    text += [f"{first}." for first in _first(seen, certificate)]
    title = "What could be had without this certificate"
    return Section("what-could-be-had", title, tuple(text), tables=(table,))


def attainable_lines(
    seen: Attainable, certificate: Certificate, command: Command, power: Power | None = None
) -> list[str]:
    """Lay out the figures and the next commands for a terminal."""
    facts = _facts(seen, certificate, power)
    width = max(len(name) for name, _ in facts)
    lines = [f"{AFTER_LOOKING}."]
    for name, figure in facts:
        lines.append(f"  {name:<{width}}  {figure.note if figure.value is None else figure.text}")
    for line, note in steps(seen, certificate, command, power):
        lines += [f"next: `{shlex.join(line)}`", f"      {note}"]
    return lines + [f"{first}." for first in _first(seen, certificate)]


def smallest(seen: Attainable, certificate: Certificate) -> tuple[str, Attained] | None:
    """The smallest level that the rows pass at, and what passes it: the cascade, or the last judge alone."""
    last = f"{certificate.judges[-1].judge} alone"
    cascade = "the cascade" if len(certificate.judges) > 1 else last
    levels = [(name, level) for name, level in ((cascade, seen.cascade), (last, seen.last)) if level]
    return min(levels, key=lambda pair: pair[1].alpha, default=None)


def fresh_labels(seen: Attainable, certificate: Certificate, power: Power | None) -> tuple[Figure, str]:
    """The labels for a chance of 80 % at the level asked for, with their unit and condition in words.

    They are those of the power curve, which repeats the whole test; without one those of the closest policy.
    """
    if certificate.group_by is not None or certificate.claim != "population":
        why = "not estimated for groups or batches"
        return missing(why), why
    chance = "80 %" if power is None else figures.setting(power.target).text
    unit = f"{'clusters' if seen.clusters else 'rows'}, for a chance of {chance}"
    closest = "" if seen.needed is None else f"about {seen.needed:,}"
    rows = None if power is None else reached(power)
    if rows is None and seen.needed is None:
        why = "no number would do at the rates seen: better judges, or a larger α"
        return missing(why), why
    if power is None:
        return Figure(seen.needed, closest), f"{unit} {ONLY_CLOSEST}"
    shown = Figure(power.rows[-1], f"> {power.rows[-1]:,}")
    if rows is not None:
        shown = Figure(round_up(rows), f"about {round_up(rows):,}")
    return shown, f"{unit}; {closest} {ONLY_CLOSEST}" if closest else unit


def _facts(seen: Attainable, certificate: Certificate, power: Power | None) -> list[tuple[str, Figure]]:
    judges = [seal.judge for seal in certificate.judges]
    lines = [(f"Smallest α of {judges[-1]} alone", _level(seen.last))]
    if len(judges) > 1:
        lines.append(("Smallest α of the cascade", _level(seen.cascade)))
    if certificate.group_by is None and certificate.claim == "population":
        needed, detail = fresh_labels(seen, certificate, power)
        shown = needed if needed.value is None else words(f"{needed.text} {detail}")
        lines.append((f"Fresh labels for α = {certificate.alpha:g}", shown))
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


def steps(
    seen: Attainable, certificate: Certificate, command: Command, power: Power | None = None
) -> list[tuple[Sequence[str], str]]:
    """The words of the next commands that would run, and what each is for."""
    lines = [(["run", "--uncertified"], "estimates means and compares without a certificate")]
    if _can_draw(certificate) and seen.free:
        rows, level, of = _rows_to_draw(seen, certificate, power)
        fresh = f"draws fresh rows to label, for α = {level:g}{of}"
        if seen.free < rows:
            fresh += f"; [data] items has {seen.free:,} of the {rows:,} that this takes"
        drawn = str(min(rows, seen.free))
        lines.append((["label queue", "--for", "calibration", "--rows", drawn], fresh))
    lines.append(_plan(seen, certificate))
    return [(command(*given), note) for given, note in lines]


def _plan(seen: Attainable, certificate: Certificate) -> tuple[list[str], str]:
    """Plan with the rates seen at the smallest level; of several guarantees one, with its share of delta."""
    alpha, delta, note = certificate.alpha, list[str](), "says how many labels another α takes"
    guess = ["--disagreement", f"{alpha / 2:.3g}", "--coverage", "0.7"]
    lowest = smallest(seen, certificate)
    if certificate.group_by is not None:
        number = max(1, len(certificate.groups))
        delta = ["--delta", f"{certificate.delta / number:.3g}"]
        note = f"says how many labels one of {number:,} guarantees takes, with its share of δ"
    elif lowest is not None and lowest[1].lost < lowest[1].alpha * lowest[1].accepted:
        name, level = lowest
        alpha = level.alpha
        guess = ["--disagreement", f"{level.lost / level.accepted:.3g}"]
        guess += ["--coverage", f"{max(level.accepted / level.rows, 0.001):.3g}"]
        note = f"says how many labels α = {alpha:g} takes, at the rates of {name}"
    return ["plan", "--alpha", f"{alpha:g}", *delta, *guess], note


def _can_draw(certificate: Certificate) -> bool:
    """Whether rows can be drawn to test again: not of a batch, nor from another population."""
    return certificate.claim != "batch" and certificate.weighting is None


def _first(seen: Attainable, certificate: Certificate) -> list[str]:
    """What must be done before rows can be drawn."""
    if seen.free or not _can_draw(certificate):
        return []
    return [
        "To label fresh rows, first add items to [data] items: all of them, or one of each cluster, are in "
        "the sample already"
    ]


def _rows_to_draw(seen: Attainable, certificate: Certificate, power: Power | None) -> tuple[int, float, str]:
    """The fresh rows for the level that was asked for, or if these are too many for the one that passed.

    With the level that they are for, and the condition in words.
    """
    rows = None if power is None else reached(power)
    if rows is not None:
        return round_up(rows), certificate.alpha, ""
    one = certificate.group_by is None
    if one and power is None and seen.needed is not None and seen.needed <= MOST_ROWS:
        return seen.needed, certificate.alpha, f" {ONLY_CLOSEST}"
    lowest = smallest(seen, certificate)
    if one and lowest is not None:
        name, level = lowest
        rate = (level.lost + 0.5) / (level.accepted + 1)
        accepted = labels_needed(rate, level.alpha, certificate.delta)
        wanted = None if accepted is None else ceil(accepted * level.rows / level.accepted)
        if wanted is not None and wanted <= MOST_ROWS:
            return wanted, level.alpha, f" of {name}, if only the policy that passed there were tested"
    number = max(1, len(certificate.groups))
    fewest = number * label_floor(certificate.alpha, certificate.delta / number)
    return 3 * fewest, certificate.alpha, ": three times the fewest that could give a certificate"
