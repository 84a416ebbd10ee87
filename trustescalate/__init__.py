"""LLM judges with a proof of how far they can be trusted.

Importing this package loads nothing heavy: each public name is imported when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Annotation": "types",
    "Certificate": "types",
    "Config": "config",
    "Decision": "types",
    "Item": "types",
    "Judgment": "types",
    "Project": "project",
    "Run": "types",
    "Task": "types",
    "TaskKind": "types",
    "TrustEscalateError": "errors",
    "Vote": "types",
    "certify": "stats.certify",
    "common_path": "stats.policy",
    "load_config": "config",
}

__all__ = [
    "Annotation",
    "Certificate",
    "Config",
    "Decision",
    "Item",
    "Judgment",
    "Project",
    "Run",
    "Task",
    "TaskKind",
    "TrustEscalateError",
    "Vote",
    "certify",
    "common_path",
    "load_config",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
