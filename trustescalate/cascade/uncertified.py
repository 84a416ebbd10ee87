"""Prepare a run without a certificate: its judges, few-shot examples and the reason why nothing is certified.

The "no certificate" of the calibration in place goes into the run where it is about the same judges and data.
Otherwise one is stated that rests on no test. Neither is used to decide anything.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from trustescalate.calibration.evidence import must_rest_on_evidence
from trustescalate.calibration.files import certificate_votes, read_certificate
from trustescalate.calibration.prepare import select_rows
from trustescalate.calibration.scoring import Scorer
from trustescalate.calibration.uncertified import no_certificate, rests_on_tests
from trustescalate.cascade.fit_judges import fitting_rows, near_tested
from trustescalate.cascade.panel import Asking, Panel, open_panel
from trustescalate.cascade.runner import Cascade, must_fit, uncertified_cascade
from trustescalate.config import Config
from trustescalate.data.dataset import Dataset
from trustescalate.data.labels import without_labels
from trustescalate.errors import CertificateMismatch, DataError, NoCertificate, UsageError
from trustescalate.judges.base import Judge
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.fingerprints import judge_inputs
from trustescalate.records import Certificate, Channel, JudgeBinding, RunHeader
from trustescalate.records.progress import Hooks

NOT_USED = "this run was asked for without the {what} in place, which is not used"
ZERO_SHOT = "there are too few labels for few-shot examples: the judges are asked without examples"


class Uncertified(NamedTuple):
    """What an uncertified run goes out from.

    `config` is that of the project, without few-shot examples where no labels are there for any. `before` is
    the certificate in place, or that of a run to be resumed.
    """

    config: Config
    roles: Mapping[str, tuple[str, ...]]
    before: Certificate | None


def must_name_judges(config: Config, thresholds: Mapping[str, float]) -> None:
    """Raise UsageError for a threshold of an unknown judge, or one that is no score."""
    known = [table.name for table in config.judges]
    for name, threshold in thresholds.items():
        if name not in known:
            raise UsageError(f"there is no judge {name!r}", f"there are {', '.join(known)}")
        if not 0 <= threshold <= 1:
            raise UsageError(f"the threshold of {name}, {threshold:g}, does not lie between 0 and 1")


def prepare(config: Config, hooks: Hooks, data: Dataset, header: RunHeader | None) -> Uncertified:
    """Choose the few-shot examples: those of the run to be resumed, of the certificate in place, or new ones.

    Raises CertificateMismatch for a certificate in place that does not follow from its own figures.
    """
    if header is not None:
        whole = config if _has_shots(header) else _zero_shot(config)
        return Uncertified(whole, _of_judges(config, data, header.certificate.roles), header.certificate)
    try:
        before = read_certificate(config.folder)
    except NoCertificate:
        before = None
    if before is not None and before.status != "none":
        what = "certificate" if before.status == "certified" else "calibration"
        hooks.notice(f"the {what} in place is not used: this run is uncertified, and releases nothing")
    if not config.needs_exemplars and not config.fitted_on:
        return Uncertified(config, _of_judges(config, data, {}), before)
    roles = before.roles if before is not None else select_rows(config, data).roles
    taken = _of_judges(config, data, roles)
    try:
        exemplars_of(config, data, taken["exemplars"])
    except DataError:
        hooks.notice(ZERO_SHOT)
        config, taken = _zero_shot(config), {**taken, "exemplars": ()}
    return Uncertified(config, taken, before)


@asynccontextmanager
async def open_uncertified(
    run: Uncertified, hooks: Hooks, data: Dataset, asking: Asking
) -> AsyncIterator[Panel]:
    """Open the judges of an uncertified run, as the calibration in place asked them where there is one."""
    config, before = run.config, run.before
    exemplars = exemplars_of(config, data, run.roles["exemplars"])
    seals = before.judges if before is not None and rests_on_tests(before) else ()
    channels: Mapping[str, Channel] = {seal.judge: seal.channel for seal in seals}
    votes = certificate_votes(config.folder, before) if before is not None and config.fitted_on else None
    recorded = [row for rows in (votes or {}).values() for row in rows.values()]
    rows = fitting_rows(config, data, run.roles, recorded)
    async with open_panel(config, hooks, exemplars, asking, rows=rows, channels=channels) as panel:
        yield panel


def bind(run: Uncertified, data: Dataset, judges: Sequence[Judge], created: str) -> Certificate:
    """The "no certificate" that goes into the header of a new run, with these judges."""
    config, before = run.config, run.before
    inputs = judge_inputs(config, exemplars_of(config, data, run.roles["exemplars"]))
    advice = "`trustescalate calibrate` tests the judges on labelled rows"
    if before is None:
        reason = "the judges were never calibrated"
        advice = advice if data.annotations else without_labels(config.folder)
    elif before.status != "none":
        reason = NOT_USED.format(what="certificate" if before.status == "certified" else "calibration")
        advice = "`trustescalate run` uses it"
    elif before.claim == "batch":
        reason, advice = f"the calibration of a batch gave none: {before.reason}", before.advice
    else:
        try:
            must_fit(before, judges, config.task.task(), config.ensemble.estimator, inputs)
            must_rest_on_evidence(config, data, before)
        except CertificateMismatch as error:
            reason = f"calibration gave none, and was of other judges or data: {error.message}"
        else:
            return before
    seals = [JudgeBinding(one.name, one.fingerprint, one.channel, inputs[one.name]) for one in judges]
    return no_certificate(config, run.roles, seals, reason=reason, advice=advice, created=created)


def cascade_without(
    run: Uncertified,
    data: Dataset,
    certificate: Certificate,
    judges: Sequence[Judge],
    thresholds: Mapping[str, float],
) -> Cascade:
    """The cascade of an uncertified run. Raises CertificateMismatch for other judges than the header's."""
    config = run.config
    inputs = judge_inputs(config, exemplars_of(config, data, run.roles["exemplars"]))
    must_fit(certificate, judges, config.task.task(), config.ensemble.estimator, inputs)
    return uncertified_cascade(thresholds, judges, Scorer.of(certificate))


def _of_judges(
    config: Config, data: Dataset, roles: Mapping[str, Sequence[str]]
) -> Mapping[str, tuple[str, ...]]:
    """The rows that make the judges: their few-shot examples, and what classical judges are fitted on."""
    fit_on, pilot = config.fitted_on, roles.get("pilot", ())
    if "last_judge" not in fit_on:
        pilot = ()
    elif config.guarantee.claim != "batch":
        near = near_tested(data, roles)
        pilot = [item_id for item_id in pilot if item_id not in near]
    return {
        "exemplars": tuple(roles.get("exemplars", ())),
        "dev": tuple(roles.get("dev", ())) if "labels" in fit_on else (),
        "pilot": tuple(pilot),
    }


def _zero_shot(config: Config) -> Config:
    return config.model_copy(update={"ensemble": config.ensemble.model_copy(update={"shots": 0})})


def _has_shots(header: RunHeader) -> bool:
    ensemble = header.config.get("ensemble")
    return not isinstance(ensemble, Mapping) or ensemble.get("shots") != 0
