"""A small, made-up evaluation with round figures, and variants of it. Nothing here is random."""

from dataclasses import replace
from math import comb

from trustescalate.records import (
    Annotation,
    Annotator,
    AnnotatorAgreement,
    Bin,
    Certificate,
    Checkpoint,
    Coefficient,
    Correlation,
    Decision,
    GroupGuarantee,
    HumanAgreement,
    Item,
    JudgeBinding,
    JudgeDiagnostics,
    Judgment,
    LeftOut,
    Overall,
    Pair,
    PolicyTest,
    Run,
    RunHeader,
    StandIn,
    Standing,
    Standings,
    Step,
    Stratum,
    Task,
    TaskKind,
    TierShift,
    Unseen,
    Usage,
    Vote,
)

JUDGES = ("small-7b", "medium-70b", "large")
PRICES = (0.00002, 0.0004, 0.003)
THRESHOLD = 0.7312499999999998
TASK = Task(TaskKind.PAIRWISE, "Which response would a human reader prefer?", ("A", "B", "tie"))
ALPHA, DELTA, N = 0.15, 0.1, 250
PATH = [(0.97, 40, 4), (0.93, 84, 6), (0.9, 121, 8), (0.86, 160, 12), (0.82, 196, 17), (0.78, 214, 19)]
PATH += [(THRESHOLD, 231, 23), (0.69, 240, 33), (0.6, 246, 39), (0.0, 250, 46)]
CHOSEN = 6
HOSTILE = (
    "</script><script>window.__pwned = 1</script>"
    "<img src=x onerror='window.__pwned = 2'>"
    "{{ 7*7 }}{% raw %}${7*7}<!-- ]]> --><svg onload=alert(1)>"
    "\x1b[31mred\x1b[0m\x00\x07\u202egnp.exe\u2066\u200b\ufeff\ud800\ufffe"
    '=HYPERLINK("http://example.invalid")|`code`|[a](javascript:alert(1))\n# heading\n@someone #1\r\'"&lt;'
    " https://example.invalid/leak <iframe srcdoc='<script>window.__pwned = 3</script>'></iframe>"
)


def binomial_cdf(errors: int, rows: int, rate: float) -> float:
    """P(at most this many errors), summed term by term."""
    return sum(comb(rows, k) * rate**k * (1 - rate) ** (rows - k) for k in range(errors + 1))


def certificate() -> Certificate:
    """231 of 250 rows accepted with 23 errors, at three tiers."""
    return Certificate(
        schema=1,
        status="certified",
        reason="",
        advice="",
        alpha=ALPHA,
        delta=DELTA,
        claim="population",
        path="common",
        procedure="fallback",
        prefer="coverage",
        estimator="ensemble",
        task=TASK,
        label_policy="majority",
        n=N,
        no_majority=9,
        dropped_ties=0,
        chosen=CHOSEN,
        thresholds=(THRESHOLD,) * 3,
        coverage_lower=0.8979123,
        tests=_tests(),
        judges=tuple(JudgeBinding(judge, f"{place}f" * 32, "logprobs") for place, judge in enumerate(JUDGES)),
        diagnostics=tuple(_diagnostics(place) for place in range(3)),
        human_agreement=HumanAgreement(
            3, 702, 611, (0.8436, 0.8944), 250, 241, (0.932, 0.9834), 0.883, (0.857, 0.909)
        ),
        roles={"exemplars": ("e1", "e2"), "certify": tuple(f"c{i}" for i in range(N)), "pilot": ("p1",)},
        protocol="a1" * 32,
        data_digest="b2" * 32,
        seed=20240711,
        version="0.1.0",
        created="2025-03-04T09:12:00Z",
        assumptions=(
            "the certification rows were drawn independently from the population of the items to be judged",
            "the judges stay as they are: same model, same wording, same examples",
        ),
        radius=1.0789,
        band=tuple(Checkpoint(*row) for row in ((0, 0.2891), (3, 0.1499), (6, 0.1612), (9, 0.2511))),
        annotator_agreement=people(),
    )


def people() -> AnnotatorAgreement:
    """Three annotators, the third with too few rows for the alternative-annotator test."""
    return AnnotatorAgreement(
        coefficients=(
            Coefficient("Fleiss κ", 0.7214, (0.661, 0.7719)),
            Coefficient("Krippendorff α, nominal", 0.7218, (0.6611, 0.7722)),
            Coefficient("Gwet AC1", None, None),
        ),
        annotators=(
            Annotator("ann", 250, 12, 0, 401, 460),
            Annotator("bob", 240, 8, 10, 399, 450),
            Annotator("cy", 20, 0, 2, 0, 0),
        ),
        pairs=(Pair("ann", "bob", 200, 230),),
        stand_ins=(
            StandIn("small-7b", "ann", 230, 0.71, 0.4321, False),
            StandIn("small-7b", "bob", 230, 0.73, 0.2, False),
            StandIn("large", "ann", 230, 0.9, 0.0004, True),
            StandIn("large", "bob", 228, 0.7, 0.4, False),
        ),
        epsilon=0.1,
        min_rows=30,
    )


def overall() -> Overall:
    """A win rate with enough labels."""
    return Overall(0.5312, "", (0.4911, 0.5721), (0.4812, 0.6009), True, 550, 250, verdicts=(0.3312, 0.6899))


def shift(*, raised: bool = False) -> tuple[TierShift, ...]:
    """Two tiers, the second with or without score drift."""
    return (
        TierShift("small-7b", 250, 300, "A", (0.5, 0.53), 0.0512, 0.8123, raised=False),
        TierShift("medium-70b", 120, 150, "B", (0.4, 0.68), 0.2812, 0.0004 if raised else 0.0912, raised),
    )


def standings(suffix: str = "") -> Standings:
    """Three models, one with too few labels and one without any; `suffix` is in every name."""
    names = [name + suffix for name in ("new", "old", "tiny", "never labelled")]
    return Standings(
        method="mean",
        models=(
            Standing(names[0], 250, 130, 0.7012, (0.6201, 0.7823), (0.6, 0.79), True, "", 0.81, 0.69, 1, 2),
            Standing(names[1], 240, 110, 0.5512, (0.4601, 0.6423), (0.44, 0.65), True, "", 0.6, 0.56, 1, 3),
            Standing(
                names[2], 40, 10, 0.4012, None, (0.1, 0.8), False, "10 labels, fewer than 100", 0.5, 0.4, 2, 3
            ),
            Standing(names[3], 20, 0, None, reason="fewer than 2 labels"),
        ),
        not_separable=((names[0], names[1]), (names[1], names[2])),
        correlation=Correlation(3, 1.0, 1 / 3, 1.0, 1 / 3),
        rows=550,
        labels=250,
        left_out=7,
        paired=True,
    )


def strata(suffix: str = "") -> tuple[Stratum, ...]:
    """Two strata, and items that name none."""
    return (
        Stratum("maths" + suffix, 400, 180, 0.5712, (0.4988, 0.6423), (0.48, 0.66), True, "", False),
        Stratum(
            "poems" + suffix, 140, 70, 0.7212, None, (0.58, 0.84), False, "70 labels, fewer than 100", True
        ),
        Stratum(None, 10, 1, None, None, None, False, "fewer than 2 labels", True),
    )


def no_certificate() -> Certificate:
    """No certificate, with the reason."""
    tests = tuple(replace(test, errors=test.errors + 30, p_value=1.0, rejected=False) for test in _tests())
    return replace(
        certificate(),
        status="none",
        reason="none of 10 policies passed its test: on 250 labelled rows, disagreement with human labels "
        "could not be shown to be at most 0.15",
        advice="at best 36 of 84 verdicts disagreed with human labels: use better judges, clearer "
        "instructions, or allow a larger alpha",
        chosen=None,
        radius=None,
        thresholds=None,
        coverage_lower=None,
        tests=tests,
    )


def tierwise_certificate() -> Certificate:
    """Two tiers that passed, each on rows of its own: 120 with 8 errors, 70 with 3; the third did not."""
    rows = [((0.9, None, None), 120, 8, (120, 0, 0)), ((0.9, 0.8, None), 70, 3, (0, 70, 0))]
    level = DELTA / 3
    tests = [
        PolicyTest(taus, accepted, errors, parts, 0.004, binomial_cdf(errors, accepted, ALPHA), level, True)
        for taus, accepted, errors, parts in rows
    ]
    last = PolicyTest((0.9, 0.8, None), 0, 0, (0, 0, 0), 0.004, 1.0, level, False)
    taus = (0.9, 0.8, None)
    return replace(certificate(), path="tierwise", tests=(*tests, last), chosen=2, thresholds=taus, band=())


def grouped_certificate(*values: str) -> Certificate:
    """A guarantee for the first group, none for the others, and the leave-one-out check of all."""
    first, *others = values or ("de", "fi")
    rows = tuple(f"c{place}" for place in range(N))
    guarantees = [
        GroupGuarantee(first, 0.2, rows, N, DELTA, True, CHOSEN, (THRESHOLD,) * 3, 0.8979, _tests(), 1.3),
        *(
            GroupGuarantee(value, ALPHA, ("x",), 1, 0.0, False, None, None, None, (), None)
            for value in others
        ),
    ]
    unseen = [
        Unseen(first, 250, True, 200, 50, (0.2, 0.31), (0.74, 0.85)),
        *(Unseen(value, 40, False, 0, 0, (0.0, 1.0), (0.0, 0.07)) for value in others),
    ]
    return replace(
        certificate(),
        chosen=None,
        thresholds=None,
        tests=(),
        radius=None,
        band=(),
        group_by="meta.language",
        groups=tuple(guarantees),
        left_out=LeftOut("meta.language", tuple(unseen), 3),
    )


def grouped_run(*values: str) -> Run:
    """Forty items, every other one in the group with a guarantee, every fourth in no group."""
    whole, values = run(40), values or ("de", "fi")
    kinds = [values[0], values[-1], values[0], None]
    items = [
        replace(item, meta={"language": kind} if (kind := kinds[place % 4]) else {})
        for place, item in enumerate(whole.items)
    ]
    nothing = "nothing is certified for its meta.language"
    decisions = [
        row if kinds[place % 4] == values[0] else Decision(row.item_id, None, None, None, nothing, ())
        for place, row in enumerate(whole.decisions)
    ]
    asked = {row.item_id for row in decisions if row.trail}
    judgments = tuple(row for row in whole.judgments if row.item_id in asked)
    header = replace(whole.header, certificate=grouped_certificate(*values))
    return replace(whole, header=header, items=tuple(items), decisions=tuple(decisions), judgments=judgments)


def run(items: int = 300, *, annotated: bool = True) -> Run:
    """A complete run: of ten items, the judges release five, three and one, and one is abstained."""
    rows = tuple(_item(place) for place in range(items))
    judged = [_judged(item, place) for place, item in enumerate(rows)]
    return Run(
        header=_header(items),
        items=rows,
        judgments=tuple(row for judgments, _ in judged for row in judgments),
        decisions=tuple(decision for _, decision in judged),
        annotations=tuple(_annotations(rows[:60])) if annotated else (),
        overall=overall(),
        shift=shift(),
        standings=standings(),
        independent=tuple(row.id for row in rows),
    )


def incomplete_run() -> Run:
    """The same, stopped at its budget after 180 of 300 items."""
    whole = run(annotated=False)
    kept = {item.id for item in whole.items[:180]}
    return replace(
        whole,
        header=replace(whole.header, status="budget"),
        overall=Overall(None, "the run is not complete"),
        judgments=tuple(row for row in whole.judgments if row.item_id in kept),
        decisions=tuple(row for row in whole.decisions if row.item_id in kept),
    )


def simulated_run() -> Run:
    """The same, by judges whose names say that they are simulated."""
    whole = run(40)
    bindings = tuple(
        replace(seal, judge=f"simulated-{seal.judge}") for seal in whole.header.certificate.judges
    )
    certified = replace(whole.header.certificate, judges=bindings)
    return replace(whole, header=replace(whole.header, certificate=certified))


# ── parts ────────────────────────────────────────────────────────────────────────────────────────


def _tests() -> tuple[PolicyTest, ...]:
    return tuple(
        PolicyTest(
            thresholds=(tau,) * 3,
            accepted=accepted,
            errors=errors,
            by_tier=(accepted // 2, accepted // 3, accepted - accepted // 2 - accepted // 3),
            cost=0.0009,
            p_value=binomial_cdf(errors, accepted, ALPHA),
            level=(0.0, 0.06, 0.06, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0, 0.0)[place],
            rejected=1 <= place <= CHOSEN,
        )
        for place, (tau, accepted, errors) in enumerate(PATH)
    )


def _diagnostics(place: int) -> JudgeDiagnostics:
    right = (176, 199, 214)[place]
    bins = [
        (0.5, 0.6, 31 - 6 * place, 0.552, 15),
        (0.6, 0.7, 42 - 8 * place, 0.648, 24 - 4 * place),
        (0.7, 0.8, 55, 0.756, 36 + 3 * place),
        (0.8, 0.9, 60, 0.853, 47 + 2 * place),
        (0.9, 1.0, 59 + 14 * place, 0.948, 54 + 14 * place),
    ]
    return JudgeDiagnostics(
        judge=JUDGES[place],
        n=N,
        agreements=right,
        interval=((0.6431, 0.7594), (0.7411, 0.8437), (0.8063, 0.8968))[place],
        kappa=(0.482, 0.633, 0.748)[place],
        ece=(0.071, 0.048, 0.0294)[place],
        brier=(0.188, 0.141, 0.1062)[place],
        auroc=(0.712, 0.781, None)[place],
        bins=tuple(Bin(*row) for row in bins),
        votes=2500,
        failures={"timeout": 12, "none": 3} if place == 2 else {},
        cost=(0.0002, 0.004, 0.03)[place],
    )


def _header(items: int) -> RunHeader:
    return RunHeader(
        schema=1,
        id="20250304T0915Z-k3f9",
        status="complete",
        created="2025-03-04T09:15:22Z",
        command="trustescalate run --config trustescalate.toml --certificate certificate.json",
        config={"guarantee": {"alpha": ALPHA, "delta": DELTA}, "judges": [{"name": name} for name in JUDGES]},
        certificate=certificate(),
        items_digest="c3" * 32,
        items=items,
        versions={"trustescalate": "0.1.0", "python": "3.12.4", "numpy": "2.1.0"},
    )


_PROMPTS = (
    "Explain to a ten-year-old why the sky is blue, in at most three sentences.",
    "My landlord wants to keep the deposit because of a scratch on the floor. What can I do?",
    "Write a SQL query that finds customers without an order in the last 90 days.",
    "Summarise the attached minutes for somebody who missed the meeting.",
    "Is it safe to take ibuprofen together with paracetamol?",
)
_RESPONSES = (
    "Sunlight holds all colours. Air scatters blue light more than red, so blue reaches us from everywhere. "
    "That is why the sky looks blue.",
    "It depends on the details. In general, normal wear is not a reason to keep a deposit; ask for an "
    "itemised list of the damage in writing, and answer it point by point.\n\nIf that does not help, a "
    "tenants' association can check the contract.",
)


def _item(place: int) -> Item:
    return Item(
        id=f"item-{place:04d}",
        prompt=_PROMPTS[place % 5],
        responses=(_RESPONSES[place % 2], _RESPONSES[(place + 1) % 2]),
        reference="Rayleigh scattering." if place % 7 == 0 else None,
    )


def _judged(item: Item, place: int) -> tuple[list[Judgment], Decision]:
    last = (0, 0, 1, 0, 1, 0, 2, 0, 1, 3)[place % 10]
    label = ("A", "B", "A", "tie")[place % 4]
    tiers = range(min(last, 2) + 1)
    steps = tuple(_step(tier, tier == last, label, place) for tier in tiers)
    judgments = [_judgment(item, step, tier) for tier, step in enumerate(steps)]
    if last < 3:
        return judgments, Decision(item.id, label, JUDGES[last], steps[-1].score, "accepted", steps)
    reason = "below threshold at every tier"
    if steps[-1].failures:
        reason += f", with failed votes: {', '.join(steps[-1].failures)}"
    return judgments, Decision(item.id, None, None, None, reason, steps)


def _step(tier: int, accepted: bool, label: str, place: int) -> Step:
    score = 0.81 + (place % 13) / 80 if accepted else 0.42 + (place % 9) / 60
    early = place % 3 != 0
    failed = ("timeout",) if tier == 2 and place % 20 == 9 else ()
    return Step(
        judge=JUDGES[tier],
        label=label,
        score=score,
        score_upper=score + 0.08 if early else score,
        threshold=THRESHOLD,
        accepted=accepted,
        votes=6 if early else 10,
        planned=10,
        failures=failed,
    )


def _judgment(item: Item, step: Step, tier: int) -> Judgment:
    vote = Vote(0, "AB", {"A": 0.9, "B": 0.05}, "A", usage=Usage(1), cost=PRICES[tier])
    votes = [
        replace(vote, exemplar_set=k // 2, order="AB" if k % 2 == 0 else "BA") for k in range(step.votes)
    ]
    for k in range(2 if step.failures else 0):
        votes[k] = replace(votes[k], probs={}, raw="", failure="timeout", cost=0.0)
    return Judgment(item.id, step.judge, f"{tier}f" * 32, tuple(votes), step.planned)


def _annotations(items: tuple[Item, ...]) -> list[Annotation]:
    rows = []
    for place, item in enumerate(items):
        verdict = ("A", "B", "A", "tie")[place % 4]
        other = "B" if verdict == "A" else "A"
        rows.append(Annotation(item.id, "ann", other if place % 15 == 0 else verdict))
        if place % 30 == 1:
            rows.append(Annotation(item.id, "bob", other))
    return rows
