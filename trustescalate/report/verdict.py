"""State a decision on one item for another tool: one sentence, and the facts behind it as JSON."""

from typing import Any

from trustescalate.records import Certificate, Decision
from trustescalate.records.failures import reason_in_words
from trustescalate.records.jsonl import to_python


def explain_decision(decision: Decision, certificate: Certificate) -> str:
    """One sentence: what was decided, by whom and why, and under which certificate."""
    rests = f"certificate {certificate.id} (α = {certificate.alpha:g}, δ = {certificate.delta:g})"
    if decision.label is None:
        return f"Abstained ({reason_in_words(decision.reason)}): human review is needed; {rests}."
    if decision.judge is None or decision.score is None:
        return f"{decision.label!r}: {reason_in_words(decision.reason)}; {rests}."
    threshold = decision.trail[-1].threshold if decision.trail else None
    bound = "" if threshold is None else f", threshold {threshold:.3g}"
    return f"{decision.label!r} by judge {decision.judge!r}, score {decision.score:.3g}{bound}; {rests}."


def decision_metadata(decision: Decision, certificate: Certificate) -> dict[str, Any]:
    """Plain JSON values: the certificate's id and terms, who decided, and what happened at each tier."""
    return {
        "certificate": certificate.id,
        "alpha": certificate.alpha,
        "delta": certificate.delta,
        "claim": certificate.claim,
        "item_id": decision.item_id,
        "label": decision.label,
        "abstained": decision.label is None,
        "reason": decision.reason,
        "judge": decision.judge,
        "score": decision.score,
        "trail": [to_python(step) for step in decision.trail],
    }
