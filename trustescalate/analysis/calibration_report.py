"""Build the report of a calibration: one path for its files and for the screen."""

from collections.abc import Sequence
from typing import NamedTuple

from trustescalate.analysis.injection import read_probe
from trustescalate.analysis.power_curve import power_curve
from trustescalate.calibration.attainable import Attainable, attainable
from trustescalate.config import Config
from trustescalate.data.dataset import Dataset
from trustescalate.records import Certificate
from trustescalate.report.attainable import completed
from trustescalate.report.document import build_calibration
from trustescalate.report.follow import with_next
from trustescalate.report.pictures import Power
from trustescalate.report.sections import Report


class CalibrationReport(NamedTuple):
    """The report of a calibration, and what it rests on beside the certificate; None where there is none."""

    report: Report
    seen: Attainable | None
    power: Power | None


def calibration_report(
    config: Config, data: Dataset, certificate: Certificate, options: Sequence[str] | None
) -> CalibrationReport:
    """Report the certificate in the folder; `options` name the configuration in the next commands.

    No model calls, and the ledger records nothing.
    """
    seen = attainable(config, data, certificate)
    power = power_curve(config, seen)
    probe = read_probe(config.folder)
    report = build_calibration(certificate, probe, seen, power, completed(options or ()))
    return CalibrationReport(with_next(report, options, certificate, seen, power), seen, power)
