"""State that nothing is certified, for a run that was asked for without a certificate."""

from collections.abc import Iterable, Mapping, Sequence

from trustescalate import __version__
from trustescalate.calibration.calibrate import CERTIFICATE_SCHEMA
from trustescalate.calibration.losses import is_binary
from trustescalate.config import Config
from trustescalate.records import Certificate, JudgeBinding, JudgeDiagnostics


def no_certificate(
    config: Config,
    roles: Mapping[str, Sequence[str]],
    judges: Iterable[JudgeBinding],
    *,
    reason: str,
    advice: str,
    created: str,
) -> Certificate:
    """A "no certificate" that rests on no test: it names the judges, their few-shot examples and why.

    `roles` holds the ids of the items in the roles exemplars and dev. No row is certified on.
    """
    guarantee, task, bound = config.guarantee, config.task.task(), tuple(judges)
    binary = is_binary(task, guarantee.reference)
    tierwise = guarantee.path == "tierwise"
    empty: Mapping[str, tuple[str, ...]] = {"certify": (), "holdout": ()}
    return Certificate(
        schema=CERTIFICATE_SCHEMA,
        status="none",
        reason=reason,
        advice=advice,
        claim="population",
        alpha=guarantee.alpha,
        delta=guarantee.delta,
        task=task,
        label_policy=guarantee.reference,
        assumptions=(),
        path=guarantee.path,
        procedure="fixed_sequence" if tierwise else guarantee.procedure,
        prefer=guarantee.prefer,
        abstention_price=guarantee.abstention_price,
        n=0,
        no_majority=0,
        dropped_ties=0,
        method="exact" if binary else "betting",
        tests=(),
        chosen=None,
        thresholds=None,
        coverage_lower=None,
        judges=bound,
        estimator=config.ensemble.estimator,
        roles={**{role: tuple(ids) for role, ids in roles.items()}, **empty},
        protocol="",
        data_digest="",
        seed=config.roles.seed,
        version=__version__,
        created=created,
        diagnostics=tuple(
            JudgeDiagnostics(seal.judge, 0, 0, (0.0, 1.0), None, None, None, None, (), 0, {}, 0.0)
            for seal in bound
        ),
        human_agreement=None,
    )


def rests_on_tests(certificate: Certificate) -> bool:
    """Whether a certificate is from a calibration, and not one that `no_certificate` states."""
    return bool(certificate.protocol)
