"""One tree of errors. Each has an exit code, a stable slug, and a hint that says what to do.

TrustEscalateError            exit 70   internal-error      (a bug: an uncaught exception is never a verdict)
├── UsageError                exit 2    usage               (config, data or command line)
│   ├── ConfigError           exit 2    config
│   └── DataError             exit 2    data                (every bad row of every file, in one go)
├── NotMeasurable             exit 3    not-measurable      (nothing can honestly be concluded)
│   ├── NoCertificate         exit 3    no-certificate
│   ├── CertificateMismatch   exit 3    certificate-mismatch
│   └── ProviderError         exit 3    provider            (a judge cannot be reached; the fix is named)
└── BudgetReached             exit 4    budget              (resumable)
"""

import re
from collections.abc import Sequence
from typing import ClassVar

ALIKE = 5
MOST_KINDS = 8
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")

EXIT_PASSED = 0
EXIT_BREACH = 1
EXIT_USAGE = 2
EXIT_NOT_MEASURABLE = 3
EXIT_BUDGET = 4
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130


class TrustEscalateError(Exception):
    """Root of the tree. `hint` is one sentence that says what to do next; it may be empty."""

    exit_code: ClassVar[int] = EXIT_INTERNAL
    slug: ClassVar[str] = "internal-error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TrustEscalateError):
    """The command, the configuration or the data cannot be used as given."""

    exit_code = EXIT_USAGE
    slug = "usage"


class ConfigError(UsageError):
    """trustescalate.toml is wrong; the message names the file and the key."""

    slug = "config"


def few_of_each(sentences: Sequence[str]) -> list[str]:
    """The first few sentences of each kind, and how many more there are. Quotes and numbers make no kind.

    >>> few_of_each([f"x:{line}: item 'q{line}' is empty" for line in range(30_000)])[4:]
    ["x:4: item 'q4' is empty", '… and 29,995 more like this']
    """
    alike: dict[str, list[str]] = {}
    for sentence in sentences:
        alike.setdefault(_QUOTED.sub("", sentence), []).append(sentence)
    lines = []
    for kind in list(alike.values())[:MOST_KINDS]:
        more = len(kind) - ALIKE
        lines += [*kind[:ALIKE], *([f"… and {more:,} more like this"] if more > 0 else [])]
    others = sum(map(len, list(alike.values())[MOST_KINDS:]))
    return [*lines, *([f"… and {others:,} others"] if others else [])]


class DataError(UsageError):
    """Data files are wrong. `problems` holds one line each, `file:line: what`, all of them at once.

    The message shows the first few of each kind.
    """

    slug = "data"

    def __init__(self, problems: list[str], hint: str = "") -> None:
        head = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        super().__init__("\n  ".join([f"{head} in the data", *few_of_each(problems)]), hint)
        self.problems = problems


class NotMeasurable(TrustEscalateError):
    """Nothing can honestly be concluded; never to be confused with a breach."""

    exit_code = EXIT_NOT_MEASURABLE
    slug = "not-measurable"


class NoCertificate(NotMeasurable):
    """There is no certificate, so no verdict may be released."""

    slug = "no-certificate"


class CertificateMismatch(NotMeasurable):
    """The certificate was made for something else; the message names the field that differs."""

    slug = "certificate-mismatch"


class ProviderError(NotMeasurable):
    """A judge cannot be used at all (key, model name, quota, network); the hint names the fix."""

    slug = "provider"


class BudgetReached(TrustEscalateError):
    """The budget in USD or in calls is used up. What is recorded stays; the run can be resumed."""

    exit_code = EXIT_BUDGET
    slug = "budget"


def explained(error: Exception) -> tuple[str, str, int]:
    """Return what a user is told of an error: message, hint and exit code.

    >>> explained(UsageError("no labels", "label some"))
    ('no labels', 'label some', 2)
    """
    if isinstance(error, TrustEscalateError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}", "fix this and try again; all recorded rows are kept", EXIT_USAGE
    return (
        f"internal error: {type(error).__name__}: {error}",
        "this is a bug; run again with `trustescalate --debug …` and report the output",
        EXIT_INTERNAL,
    )
