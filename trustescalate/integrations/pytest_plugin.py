"""Judge the outputs of pytest tests with a certified cascade, and assert the release gate.

pytest loads this plugin by its entry point; the cascade is imported when a fixture is used, not before.
"""

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from trustescalate.errors import NotMeasurable, TrustEscalateError, UsageError

if TYPE_CHECKING:
    from trustescalate.integrations.shared import CertifiedVerdict, SharedCascade, Text
    from trustescalate.project import Project
    from trustescalate.records import Item, Run
    from trustescalate.report.gate import Verdict

OUTCOMES = ("fail", "skip", "xfail")
SETTINGS = {
    "config": ("trustescalate.toml", "configuration with the certificate"),
    "abstained": ("fail", f"outcome of a test whose output is abstained on: {', '.join(OUTCOMES)}"),
    "run": ("", "run for trustescalate_run and assert_gate; by default that of the last attempt to run"),
}
"""Each is an argument of the marker, an option and an ini value, in this order of precedence."""
MARKER = "trustescalate(config=…, abstained=…, run=…): set what the fixtures of trustescalate use"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the ini values."""
    group = parser.getgroup("trustescalate", "certified LLM judges")
    for name, (default, about) in SETTINGS.items():
        choices = OUTCOMES if name == "abstained" else None
        group.addoption(f"--trustescalate-{name}", metavar=name.upper(), choices=choices, help=about)
        parser.addini(f"trustescalate_{name}", f"{about} (default: {default or 'none'})", default=default)


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker. Raises pytest.UsageError for an unknown outcome in the ini file."""
    config.addinivalue_line("markers", MARKER)
    if (outcome := config.getini("trustescalate_abstained")) not in OUTCOMES:
        raise pytest.UsageError(f"trustescalate_abstained = {outcome}: use one of {', '.join(OUTCOMES)}")
    config.stash[CASCADES] = CascadeFixture()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Name the running test to the fixture of the session."""
    item.config.stash[CASCADES].start(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """End a test with the outcome of its abstention, also where the test caught that outcome."""
    result = yield
    if abstained := item.stash.get(ABSTAINED, None):
        _end(*abstained)
    return result


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    """Count what was judged; a line is printed only where something was."""
    properties: dict[str, Sequence[tuple[str, object]]] = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            known = properties.get(report.nodeid, ())
            properties[report.nodeid] = max(known, report.user_properties, key=len)
    every = [value for each in properties.values() for name, value in each if name == f"{NAME}.abstained"]
    if every:
        left = every.count("true")
        terminalreporter.write_line(
            f"trustescalate: {len(every):,} outputs judged, {len(every) - left:,} released, "
            f"{left:,} abstained (human review is needed)"
        )


class CascadeFixture:
    """Judges the outputs of tests with the certified cascade of the running test's configuration."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, SharedCascade] = {}
        self._test: pytest.Item | None = None

    def __call__(
        self,
        prompt: "Text",
        response: "Text",
        *,
        baseline: "Text | None" = None,
        reference: str | None = None,
        context: Sequence[str] = (),
        item_id: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> "CertifiedVerdict":
        """Judge an output, in a pair against a `baseline`. The verdict returned always has a label.

        An abstention ends the test: it fails, or is skipped or expected to fail where the user set so.
        Raises the errors of `SharedCascade`.
        """
        __tracebackhide__ = True
        with _hint():
            item = self._cascade().item(
                prompt,
                response,
                baseline=baseline,
                reference=reference,
                context=context,
                item_id=item_id,
                meta=meta,
            )
        return self.judge(item)

    def judge(self, item: "Item") -> "CertifiedVerdict":
        """Judge an item, as `__call__` does."""
        __tracebackhide__ = True
        with _hint():
            test = self._running()
            outcome = _outcome(test)
            verdict = self._cascade().judge(item)
        seen = verdict.metadata
        _record(test, {key: seen[key] for key in ("item_id", "certificate", "label", "judge", "score")})
        _record(test, {"abstained": str(seen["abstained"]).lower()})
        if verdict.label is None:
            _record(test, {"reason": seen["reason"]})
            test.stash[ABSTAINED] = (outcome, verdict.explanation)
            _end(outcome, verdict.explanation)
        return verdict

    def start(self, test: pytest.Item) -> None:
        """Name the test that runs now."""
        self._test = test
        test.stash[ABSTAINED] = None

    def close(self) -> None:
        """Close all cascades; the next output opens them again."""
        with self._lock:
            for cascade in self._open.values():
                cascade.close()
            self._open.clear()

    def _running(self) -> pytest.Item:
        if self._test is None:
            raise UsageError("no test is running", "judge outputs in a test or in a fixture")
        return self._test

    def _cascade(self) -> "SharedCascade":
        from trustescalate.integrations.shared import SharedCascade

        path = _config_path(self._running())
        with self._lock:
            if path not in self._open:
                self._open[path] = SharedCascade(path)
            return self._open[path]


NAME = "trustescalate"
ABSTAINED = pytest.StashKey[tuple[str, str] | None]()
"""The outcome and the reason of a test whose output was abstained on."""
CASCADES = pytest.StashKey[CascadeFixture]()


@pytest.fixture(scope="session")
def certified_cascade(pytestconfig: pytest.Config) -> Iterator[CascadeFixture]:
    """The certified cascade: `verdict = certified_cascade(prompt, response)`."""
    cascades = pytestconfig.stash[CASCADES]
    yield cascades
    cascades.close()


@pytest.fixture
def trustescalate_run(request: pytest.FixtureRequest) -> "Run":
    """A complete run of the project. Raises NotMeasurable for an incomplete one, and without one."""
    with _hint():
        run = _project(request.node).load_run(_run_id(request.node))
        if run.header.status != "complete":
            why = f"run {run.header.id} is not complete ({run.header.status})"
            raise NotMeasurable(why, "resume it: `trustescalate run --resume`")
    return run


class GateAssertion:
    """Asserts that a run passes the gate of its project."""

    def __init__(self, test: pytest.Item) -> None:
        self._test = test

    def __call__(self, run: "Run | str | None" = None, *, baseline: str | None = None) -> "Verdict":
        """Fail the test unless the run (a record, an id, or that of the settings) passes the gate.

        Not measurable is no pass: it fails too. Raises the errors of `Project.gate`.
        """
        from trustescalate.report.text import one_line

        __tracebackhide__ = True
        with _hint():
            run_id = _run_id(self._test) if run is None else run if isinstance(run, str) else run.header.id
            verdict, _ = _project(self._test).gate(run_id, baseline=baseline)
        _record(self._test, {"gate": verdict.status, "certificate_digest": verdict.certificate})
        if verdict.status != "pass":
            lines = [f"gate: {verdict.status}"] + [
                f"{check.status}: {check.name}: {check.message}; observed: {check.observed}; "
                f"required: {check.required}"
                for check in verdict.checks
                if check.status != "pass"
            ]
            pytest.fail("\n".join(map(one_line, lines)), pytrace=False)
        return verdict


@pytest.fixture
def assert_gate(request: pytest.FixtureRequest) -> GateAssertion:
    """Assert the gate: `assert_gate(run)`."""
    return GateAssertion(request.node)


def _marked(test: pytest.Item, name: str) -> str | None:
    """A setting in the closest marker that has it. Raises UsageError for what no marker takes."""
    for marker in test.iter_markers(NAME):
        if marker.args or set(marker.kwargs) - set(SETTINGS):
            raise UsageError(f"{test.nodeid}: unknown argument of the marker trustescalate", f"use {MARKER}")
        if name in marker.kwargs:
            return str(marker.kwargs[name])
    return None


def _setting(test: pytest.Item, name: str) -> str:
    """A setting of a test: that of a marker, else the option, else the ini value."""
    given = (_marked(test, name), test.config.getoption(f"--trustescalate-{name}"))
    return str(next((value for value in given if value is not None), test.config.getini(f"{NAME}_{name}")))


def _outcome(test: pytest.Item) -> str:
    """The outcome of an abstention. Raises UsageError where a marker has an unknown one."""
    outcome = _setting(test, "abstained")
    if outcome not in OUTCOMES:
        raise UsageError(f"{test.nodeid}: abstained={outcome!r}", f"use one of {', '.join(OUTCOMES)}")
    return outcome


def _config_path(test: pytest.Item) -> Path:
    """The configuration of a test: of an option below the working directory, else below the rootdir."""
    config = test.config
    optional = _marked(test, "config") is None and config.getoption("--trustescalate-config") is not None
    base = config.invocation_params.dir if optional else config.rootpath
    return (base / _setting(test, "config")).resolve()


def _project(test: pytest.Item) -> "Project":
    from trustescalate.project import Project

    return Project.open(_config_path(test))


def _run_id(test: pytest.Item) -> str:
    from trustescalate.cascade.run_folder import find_attempted

    return _setting(test, "run") or find_attempted(_project(test).config.folder).header.id


def _record(test: pytest.Item, properties: Mapping[str, object]) -> None:
    """Add properties to the JUnit report, as the fixture record_property does; None has none."""
    test.user_properties += [
        (f"{NAME}.{name}", str(value)) for name, value in properties.items() if value is not None
    ]


def _end(outcome: str, reason: str) -> NoReturn:
    __tracebackhide__ = True
    if outcome == "skip":
        pytest.skip(reason)
    if outcome == "xfail":
        pytest.xfail(reason)  # returns with --runxfail, as if nothing were expected
    pytest.fail(reason)


@contextmanager
def _hint() -> Iterator[None]:
    """Show the hint of an error below it."""
    __tracebackhide__ = True
    try:
        yield
    except TrustEscalateError as error:
        if error.hint:
            error.add_note(f"hint: {error.hint}")
        raise
