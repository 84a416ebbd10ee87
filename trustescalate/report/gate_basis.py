"""Name the run that a gate tests, its baseline, and what changed since it was made."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from trustescalate.calibration.files import read_certificate
from trustescalate.config import Config, changes, verdict_keys
from trustescalate.errors import CertificateMismatch, NoCertificate, UsageError
from trustescalate.records import Run
from trustescalate.records.criteria import count_in_words


def why_stale(config: Config, run: Run, changed: Sequence[str] = ()) -> str:
    """State which basis of a run's figures was changed after it; empty where none was.

    `changed` are what changed of the files that the configuration points to, of the judges and the items.
    """
    try:
        if not run.uncertified and read_certificate(config.folder) != run.header.certificate:
            what = "calibration" if run.header.certificate.status == "expected" else "certificate"
            return f"the {what} was renewed after this run"
    except (NoCertificate, CertificateMismatch) as error:
        return error.message
    recorded, now = verdict_keys(run.header.config), verdict_keys(config.model_dump(mode="json"))
    order = [[judge["name"] for judge in each["judges"]] for each in (recorded, now)]
    before, after = order
    exchanged = [f"judge {name} was removed after this run" for name in before if name not in after]
    exchanged += [f"judge {name} was added after this run" for name in after if name not in before]
    for each in (recorded, now):
        each["judges"] = [judge for judge in each["judges"] if judge["name"] in {*before} & {*after}]
    keys = [f"{key} was changed after this run" for key in (*changes(recorded, now), *_reordered(*order))]
    every = [*exchanged, *keys, *changed]
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return "; ".join(every[:NAMED]) + more


NAMED = 3
"""The most changes that are named at once."""


def _reordered(before: list[str], now: list[str]) -> list[str]:
    return ["the order of the judges"] if before != now and set(before) == set(now) else []


def with_baseline(config: Config, baseline: str | None) -> Config:
    """Replace the baseline of [gate]. Raises UsageError where no requirement compares with it."""
    gate = config.gate if baseline is None else config.gate.model_copy(update={"baseline": baseline})
    if gate.baseline is not None and not config.compares:
        where = "[gate] or [[criteria]]" if config.criteria else "[gate]"
        raise UsageError(
            "a baseline needs a requirement that compares with it",
            f"set max_drop or min_gain in {where}, as in --set gate.max_drop=0.02",
        )
    return config.model_copy(update={"gate": gate})


def certificate_age(run: Run, now: datetime) -> timedelta | None:
    """Return the age of a run's certificate; None where nothing is certified."""
    certificate = run.header.certificate
    if certificate.status == "none":
        return None
    return now - datetime.fromisoformat(certificate.created)


def describe_run(run: Run, now: datetime) -> str:
    """Name a run, its age, its items and its judges."""
    header = run.header
    judges = " → ".join(seal.judge for seal in header.certificate.judges)
    created = datetime.fromisoformat(header.created)
    return f"{header.id} ({_age(now - created)}), {count_in_words(run.items)}, judges {judges}"


def _age(age: timedelta) -> str:
    """Describe an age in its largest unit.

    >>> _age(timedelta(hours=2, minutes=50)), _age(timedelta(days=-1))
    ('2 hours old', 'made at a time that is still to come')
    """
    seconds = age.total_seconds()
    if seconds < 0:
        return "made at a time that is still to come"
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number:,} {unit}{'s' if number > 1 else ''} old"
    return "less than a minute old"
