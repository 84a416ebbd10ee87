"""Check what [gate] requires of the product: rates of the run's items, and changes against a baseline."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from trustescalate.config import GateTable
from trustescalate.records import Product, Requirement, TaskKind
from trustescalate.records.criteria import BY_CRITERION
from trustescalate.report.distribution_shift import IF_ALIKE, is_doubted
from trustescalate.report.figures import setting
from trustescalate.report.product import BASES, DISJOINT, TOTAL, estimate_figure, rate_name, rounded
from trustescalate.report.sections import Check, Report, Status

KEYS = ("min_rate", "max_drop", "min_gain")


def wants_product(policy: GateTable, report: Report) -> bool:
    """Whether [gate] requires anything of the product, or one of [[criteria]] does."""
    if report.product is not None and report.product.requirements:
        return True
    return any(getattr(policy, key) is not None for key in KEYS)


def rests_on_labels(report: Report, policy: GateTable) -> bool:
    """Whether a gate requires the product alone, and every limit rests on human labels."""
    judged = (policy.min_agreement, policy.min_coverage, policy.max_abstention)
    product = report.product
    if product is None or not product.requirements or judged != (None, None, None):
        return False
    return all(each.limits.basis not in ("verdicts", "none") for each in product.requirements)


def product_checks(report: Report, policy: GateTable) -> list[Check]:
    """Hold each limit against its requirement; one that was not measured is undecided."""
    checks: list[Check] = []
    product = report.product
    by_criterion = () if product is None or product.by != BY_CRITERION else product.requirements
    for key in KEYS:
        required = getattr(policy, key)
        if required is None and product is not None:
            checks += (_check(report, product, each) for each in by_criterion if each.key == key)
        if required is None:
            continue
        measured = [] if product is None else [each for each in product.requirements if each.key == key]
        if product is None or not measured:
            why = _why_not_measured(report, policy, key)
            checks.append(
                Check(_name(report, key), "undecided", _required(report, key, required), "not measured", why)
            )
        else:
            checks += (_check(report, product, each) for each in measured)
    return checks


def _why_not_measured(report: Report, policy: GateTable, key: str) -> str:
    if report.product is not None and report.product.reason:
        return report.product.reason
    if key != "min_rate" and policy.baseline is None:
        return "there is no baseline: name a run with `gate --baseline RUN`"
    if report.task.kind is TaskKind.CHOICE:
        return "labels without an order have no mean"
    return "the run has no estimate over its items"


def _check(report: Report, product: Product, each: Requirement) -> Check:
    limits, plain = each.limits, report.task.kind is TaskKind.RATING
    name = _name(report, each.key, total=product.by == BY_CRITERION and each.about is None)
    if each.about is not None:
        name = f"{name}, {product.by} = {each.about!r}"
    least = Decimal(repr(-each.required if each.key == "max_drop" else each.required))
    low, high = (rounded(limits.low, plain, ROUND_FLOOR), rounded(limits.high, plain, ROUND_CEILING))
    status: Status = "undecided"
    if limits.basis != "none" and not _disjoint(product, each):
        status = "pass" if low >= least else "fail" if high < least else "undecided"
    observed = estimate_figure(limits, plain, signed=each.key != "min_rate").text
    if limits.basis == "verdicts" and is_doubted(report.measures.shift_alarms):
        observed = f"{IF_ALIKE}: {observed}"
    return Check(
        name, status, _required(report, each.key, each.required), observed, _message(product, each, status)
    )


def _message(product: Product, each: Requirement, status: Status) -> str:
    limits = each.limits
    if limits.basis == "none":
        why = limits.reason or "nothing limits it"
        return f"{why}. About {each.needed:,} more {each.unit} would decide it" if each.needed else why
    what = f"{limits.items:,} items; the limits rest on {BASES[limits.basis]}"
    if limits.labels:
        what += f" ({limits.labels:,} labelled items)"
    if limits.reason:
        what += f"; {limits.reason}"
    if each.key != "min_rate":
        what = f"baseline {product.baseline}; {what}"
    if status != "undecided":
        return what
    if _disjoint(product, each):
        return f"{what}. {DISJOINT}"
    if each.needed is None:
        return f"{what}. No number of {each.unit} would decide it"
    return f"{what}. About {each.needed:,} more {each.unit} would decide it"


def _disjoint(product: Product, each: Requirement) -> bool:
    rows = product.means if each.key == "min_rate" else product.changes
    return any(row.disjoint for row in rows if row.group == each.about)


def _name(report: Report, key: str, *, total: bool = False) -> str:
    rate = TOTAL if total else rate_name(report.task.kind, report.task.labels[0])
    return rate if key == "min_rate" else f"{rate}, {'drop' if key == 'max_drop' else 'gain'}"


def _required(report: Report, key: str, value: float) -> str:
    plain = report.task.kind is TaskKind.RATING
    text = f"{value:g}" if plain else setting(value).text
    if key == "min_rate":
        return f"at least {text}"
    if not plain:
        text = text.replace(" %", " points")
    return f"a drop of at most {text}" if key == "max_drop" else f"a gain of at least {text}"
