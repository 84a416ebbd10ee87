"""Read the labels that `monitor` has counted under a certificate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from trustescalate.calibration.evidence import must_rest_on_evidence
from trustescalate.calibration.files import read_certificate
from trustescalate.calibration.ledger import undated
from trustescalate.cascade.runner import must_certify
from trustescalate.config import Config
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import CertificateMismatch, DataError, NoCertificate, NotMeasurable, UsageError
from trustescalate.records import STRICT, Certificate, Item, Json
from trustescalate.records.bounded import read_whole
from trustescalate.records.jsonl import decode, digest

STATE = "monitor.json"
STATE_SCHEMA = 1
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Used:
    """One counted label: the item, a digest of its texts, the run, and whether its verdict was wrong."""

    item: str
    content: str
    run: str
    error: bool
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class State:
    """monitor.json: the digest of its certificate and every counted label, oldest first.

    `draws` counts the draws of anchors so far, `anchor_runs` names the counted runs.
    """

    schema: int
    certificate: str
    level: float
    audit: tuple[Used, ...] = ()
    anchors: tuple[Used, ...] = ()
    draws: int = 0
    anchor_runs: tuple[str, ...] = ()
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


def read_certified(config: Config) -> Certificate:
    """Read the certificate. Raises NoCertificate without one, NotMeasurable if it releases human labels."""
    try:
        certificate = read_certificate(config.folder)
        must_certify(certificate, certificate.claim, certificate.alpha, certificate.delta)
    except NoCertificate as error:
        raise NoCertificate(
            f"there is nothing to monitor: {error.message}",
            "`monitor` tests verdicts that a certificate releases, and an uncertified run releases none; "
            "`trustescalate compare` compares two such runs",
        ) from None
    must_rest_on_evidence(config, load_dataset(config), certificate)
    if certificate.batch is not None and certificate.batch.release_human_labels:
        raise NotMeasurable(
            "release_human_labels: the guarantee covers human labels and verdicts of its batch together, and "
            "`monitor` tests the judges' verdicts",
            "a batch ends with its release: certify the next one",
        )
    return certificate


def read_state(config: Config, certificate: Certificate, level: float | None) -> State:
    """Read monitor.json, or start a state. Raises if it is invalid, or of another certificate or level."""
    path, mark = config.folder / STATE, undated(certificate)
    if level is not None and not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, not {level}")
    try:
        state = decode(read_whole(path), State)
    except FileNotFoundError:
        return State(STATE_SCHEMA, mark, LEVEL if level is None else level)
    except ValueError as error:
        raise DataError([f"{path}: {error}"], "restore the file, or move it away and start anew") from None
    if state.schema != STATE_SCHEMA or not 0 < state.level < 1:
        raise DataError([f"{path}: not a state of this version"], "move it away and start anew")
    if state.certificate != mark:
        hint = "move it away: monitoring of a new certificate starts with its first label"
        raise CertificateMismatch(f"{path}: belongs to another certificate", hint)
    if level is not None and level != state.level:
        raise UsageError(
            f"the level was fixed at {state.level:g} by the first label, and cannot become {level:g}",
            "leave out --level",
        )
    return state


def item_digest(item: Item) -> str:
    """Return a digest of the texts of an item."""
    return digest(item.asked, item.reference, item.responses)


def is_error(loss: float, *chance: object) -> bool:
    """Turn a fractional loss into 0 or 1 of the same mean, by a digest of `chance`."""
    return int(digest("coin", *chance)[:13], 16) < loss * 16**13
