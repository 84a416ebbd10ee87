"""Render checks as JUnit XML, which continuous integration shows with the tests."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from xml.etree import ElementTree

from trustescalate.report.text import visible

STATUSES = ("pass", "fail", "undecided")


def render_junit(
    name: str,
    checks: Sequence[tuple[str, str, str]],
    properties: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Render checks, each (name, status, message), as one suite. An "undecided" check is an error.

    `properties` are those of the suite, such as the digest of a certificate.

    Raises ValueError for a status not in `STATUSES`.

    >>> print(render_junit("gate", [("min_coverage", "fail", "0.55 < 0.6")]))
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="gate" tests="1" failures="1" errors="0">
      <testsuite name="gate" tests="1" failures="1" errors="0">
        <testcase classname="gate" name="min_coverage">
          <failure message="0.55 &lt; 0.6">0.55 &lt; 0.6</failure>
        </testcase>
      </testsuite>
    </testsuites>
    <BLANKLINE>
    """
    statuses = [status for _, status, _ in checks]
    unknown = sorted(set(statuses) - set(STATUSES))
    if unknown:
        raise ValueError(f"unknown status {unknown[0]!r}; one of {', '.join(STATUSES)}")
    counts = {
        "name": visible(name),
        "tests": str(len(checks)),
        "failures": str(statuses.count("fail")),
        "errors": str(statuses.count("undecided")),
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", counts)
    if properties:
        given = ElementTree.SubElement(suite, "properties")
        for key, value in properties.items():
            ElementTree.SubElement(given, "property", {"name": visible(key), "value": visible(value)})
    for check in checks:
        _add_case(suite, name, check)
    ElementTree.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: ElementTree.Element, suite_name: str, check: tuple[str, str, str]) -> None:
    name, status, message = check
    names = {"classname": visible(suite_name), "name": visible(name)}
    case = ElementTree.SubElement(suite, "testcase", names)
    tag = {"pass": "system-out", "fail": "failure", "undecided": "error"}[status]
    if status == "pass" and not message:
        return
    attributes = {} if status == "pass" else {"message": visible(message)}
    ElementTree.SubElement(case, tag, attributes).text = visible(message)
