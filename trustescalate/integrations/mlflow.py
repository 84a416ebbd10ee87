"""MLflow: judge rows with a certified cascade, as a scorer, and log its certificate as an artefact."""

import json
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import AssessmentError, AssessmentSource, AssessmentSourceType, Feedback
from mlflow.genai.scorers import Scorer, scorer

from trustescalate.calibration.files import CERTIFICATE
from trustescalate.integrations.fields import Fields
from trustescalate.integrations.shared import SharedCascade

ABSTAINED = "ABSTAINED"
"""The code of the error of an abstention."""


def certified_scorer(
    cascade: SharedCascade | str | Path = "trustescalate.toml",
    *,
    name: str = "certified",
    threshold: float | None = None,
    **fields: str,
) -> Scorer:
    """Return a scorer for `mlflow.genai.evaluate` with two feedbacks for a row.

    `name` is the verdict: True or False for pass or fail, a number for a rating or a pair, the label of a
    choice. An abstention is an error with the code ABSTAINED and has no value, so the mean is that of the
    released verdicts; `NAME_released` is whether there is one, and its mean is the coverage. With a
    `threshold`, `EvaluationResult.passed` passes a number from there on. `fields` are those of `Fields`: of
    the inputs, the outputs and the expectations. Raises NoCertificate; an error of the cascade is one of the
    row.

    >>> certified_scorer("examples/pass-fail/trustescalate.toml")
    Traceback (most recent call last):
    ...
    trustescalate.errors.NoCertificate: examples/pass-fail/certificate.json: there is no certificate yet
    """
    opened = SharedCascade.of(cascade)
    opened.project.certificate()
    names = Fields(**fields)

    def certified(inputs: Any = None, outputs: Any = None, expectations: Any = None) -> list[Feedback]:
        verdict = opened.judge(names.item(opened, inputs, outputs, expectations))
        shown = {
            "source": AssessmentSource(
                AssessmentSourceType.LLM_JUDGE, f"trustescalate {verdict.certificate.id}"
            ),
            "rationale": verdict.explanation,
            "metadata": {key: _text(value) for key, value in verdict.metadata.items() if value is not None},
        }
        released = Feedback(f"{name}_released", verdict.label is not None, **shown)
        if verdict.label is None:
            return [Feedback(name, error=AssessmentError(ABSTAINED, verdict.explanation), **shown), released]
        return [Feedback(name, verdict.outcome, **shown), released]

    passes = None if threshold is None else lambda value: value >= threshold
    return scorer(certified, name=name, pass_if=passes)


def log_certificate(cascade: SharedCascade) -> None:
    """Log certificate.json and the report of the project to the active run, and tag it with the id.

    The report is that of the latest run of trustescalate, or else of the certificate. Raises NoCertificate.
    """
    certificate = cascade.project.certificate()
    _, report = cascade.project.report()
    for path in (cascade.project.config.folder / CERTIFICATE, report):
        mlflow.log_artifact(str(path), "trustescalate")
    mlflow.set_tag("trustescalate.certificate", certificate.id)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
