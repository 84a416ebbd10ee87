"""List the judges of a configuration: no model is called, and no code of the project is imported."""

from collections.abc import Callable

from trustescalate.calibration.prepare import select_rows
from trustescalate.cascade.fit_judges import fitting_rows
from trustescalate.config import AskedTable, CallableJudge, Config, JudgeTable
from trustescalate.data.dataset import load_dataset
from trustescalate.judges.base import Backend, no_model
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.functions import function_identity
from trustescalate.judges.registry import open_judges
from trustescalate.records.progress import Hooks


def describe(config: Config, hooks: Hooks) -> list[dict[str, str]]:
    """Return name, backend, fingerprint and price of each judge.

    The fingerprint of a function is "" where its file does not say what the function is.
    """
    data = load_dataset(config)
    roles = select_rows(config, data).roles
    unread: set[str] = set()

    def opened(table: AskedTable, _: Callable[[str], None]) -> Backend:
        if not isinstance(table, CallableJudge):
            return _NoModel()
        identity = function_identity(table.function, table.version, config.folder)
        if identity is None:
            unread.add(table.name)
        return _NoModel(identity)

    judges, _ = open_judges(
        config,
        exemplars_of(config, data, roles["exemplars"]),
        wrap=lambda ask, *_: ask,
        notice=hooks.notice,
        opened=opened,
        rows=fitting_rows(config, data, roles),
    )
    return [
        {
            "name": judge.name,
            "backend": table.backend,
            "fingerprint": "" if judge.name in unread else judge.fingerprint,
            "price": _price(table),
        }
        for judge, table in zip(judges, config.judges, strict=True)
    ]


def _price(table: JudgeTable) -> str:
    """The price of a judge in words, with where it is from."""
    price = table.price.model_dump(exclude_none=True, exclude_defaults=True)
    source = price.pop("source", None)
    words = ", ".join(f"{what} {usd:g}" for what, usd in price.items())
    words = words or ("free" if table.has_price else "unknown")
    return words if source is None else f"{words} (by {source})"


class _NoModel:
    complete = staticmethod(no_model)

    def __init__(self, identity: str | None = None) -> None:
        self.identity = identity
