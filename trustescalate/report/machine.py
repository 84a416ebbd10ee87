"""A report as JSON: the same facts, for programs. Texts are as they came, with only ASCII on the wire."""

import json
from dataclasses import asdict

from trustescalate.report.sections import Report


def render_json(report: Report) -> str:
    """Render the whole report; `schema` is its version. Every character beyond ASCII is escaped.

    Raises ValueError for a number that JSON does not have.
    """
    return json.dumps(asdict(report), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
