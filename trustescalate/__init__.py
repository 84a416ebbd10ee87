"""LLM judges with a proof of how far they can be trusted.

Importing this package loads nothing heavy: each public name is imported when it is first used.

PYTEST_DONT_REWRITE: pytest, which loads our plugin, must not warn where the package is imported already.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from trustescalate.cascade.decide import CertifiedCascade
    from trustescalate.config import Config, load_config, needs_trust
    from trustescalate.errors import TrustEscalateError
    from trustescalate.judges.replay import ReplayJudge
    from trustescalate.project import Project
    from trustescalate.records import (
        Annotation,
        Certificate,
        Decision,
        Item,
        Judgment,
        Run,
        Task,
        TaskKind,
        Vote,
    )
    from trustescalate.records.progress import Hooks, Progress
    from trustescalate.report.export.frame import to_frame
    from trustescalate.report.gate import Verdict
    from trustescalate.report.sections import Report
    from trustescalate.stats.certify import certify
    from trustescalate.stats.policy import common_path
else:
    _HOMES = {
        "Annotation": "records",
        "Certificate": "records",
        "CertifiedCascade": "cascade.decide",
        "Config": "config",
        "Decision": "records",
        "Hooks": "records.progress",
        "Item": "records",
        "Judgment": "records",
        "Progress": "records.progress",
        "Project": "project",
        "ReplayJudge": "judges.replay",
        "Report": "report.sections",
        "Run": "records",
        "Task": "records",
        "TaskKind": "records",
        "TrustEscalateError": "errors",
        "Verdict": "report.gate",
        "Vote": "records",
        "certify": "stats.certify",
        "common_path": "stats.policy",
        "load_config": "config",
        "needs_trust": "config",
        "to_frame": "report.export.frame",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__():
        return sorted([*globals(), *__all__])


__all__ = [
    "Annotation",
    "Certificate",
    "CertifiedCascade",
    "Config",
    "Decision",
    "Hooks",
    "Item",
    "Judgment",
    "Progress",
    "Project",
    "ReplayJudge",
    "Report",
    "Run",
    "Task",
    "TaskKind",
    "TrustEscalateError",
    "Verdict",
    "Vote",
    "certify",
    "common_path",
    "load_config",
    "needs_trust",
    "to_frame",
]
