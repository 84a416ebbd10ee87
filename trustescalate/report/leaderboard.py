"""The leaderboard as a section: who is better, by how much, and who cannot be told apart."""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

from trustescalate.records import Correlation, Run, Standing, Standings, Task, TaskKind
from trustescalate.records.standings import groups_of
from trustescalate.report import figures, secondary
from trustescalate.report.figures import Figure, count, missing, words
from trustescalate.report.sections import Column, Interval, Intervals, Row, Section, Table
from trustescalate.stats.inference import MIN_CLUSTERS, MIN_LABELS, MIN_RARE

AT_ONCE = "95 % limits, all at once"
MOST_NAMES = 12
"""So many names of a group are written out in a sentence."""
MOST_BARS = 40
MEAN_GUARD = (
    f"The limits are asymptotic. A model's are shown from {MIN_LABELS} labels on, of which {MIN_RARE} differ "
    f"from the commonest one, on {MIN_CLUSTERS} items that do not are clustered, where the predictions' "
    f"errors rest on {MIN_RARE} labels or more: there they were measured to miss about as often as they say."
)
STRENGTH_GUARD = (
    f"The limits are asymptotic. They are shown from {MIN_LABELS} labels on, with {MIN_RARE} wins and "
    f"{MIN_RARE} losses of each model on {MIN_CLUSTERS} items that do not are clustered, where the "
    f"predictions' errors rest on {MIN_RARE} labelled games of each or more; from 200 labels on they were "
    "measured to miss no more often than they say."
)


def leaderboard_section(run: Run) -> Section | None:
    """The models whose answers were judged, best first. None where no models are named."""
    board, task = run.standings, run.header.certificate.task
    if board is None:
        return None
    letters = _letters(board)
    measured = [each for each in board.models if each.estimate is not None]
    text = [_what(board, task), *([_left_out(board)] if board.left_out else [])]
    if board.reason:
        return Section("leaderboard", "Leaderboard", (f"It could not be measured: {board.reason}.", *text))
    text += [_separable(board, letters), STRENGTH_GUARD if board.method == "bradley_terry" else MEAN_GUARD]
    if any(not each.usable for each in measured):
        text.append(_few(board, measured))
    if board.correlation is not None:
        text.append(_correlation_text(board.correlation))
    tables = (_board_table(board, task, letters),)
    return Section("leaderboard", "Leaderboard", tuple(text), intervals=_chart(board, task), tables=tables)


def _what(board: Standings, task: Task) -> str:
    what = {
        TaskKind.PAIRWISE: "how often people prefer its answer to the one beside it, a tie counting one half",
        TaskKind.RATING: "its mean rating by people",
    }.get(task.kind, f"how often people say {task.labels[0]!r} of it")
    if board.method == "bradley_terry":
        what = (
            "its Bradley-Terry strength (log-odds; strengths sum to 0, and a lead of 1 over another model "
            "means that people prefer it 73 % of the time)"
        )
    paired = " Rows of one item are clustered and are compared within it." if board.paired else ""
    return (
        f"For each model, {what}, over all {board.rows:,} judged rows, abstained ones included: predictions "
        f"for all of them, corrected by {board.labels:,} human labels (PPI++). It is assumed that the "
        f"labelled rows are a random draw of each model's rows.{paired}"
    )


def _left_out(board: Standings) -> str:
    return f"Left out: {board.left_out:,} rows that name no model, or one model twice."


def _few(board: Standings, measured: Sequence[Standing]) -> str:
    few = [each for each in measured if not each.usable]
    if board.method == "bradley_terry":
        return f"Labels are too few for limits on strengths ({few[0].reason}), so no limits are shown."
    return (
        f"Too few labels for the interval that uses predictions: {len(few):,} of {len(measured):,} models. "
        "For these read the limits from labels alone; they are called better or worse only where these "
        "limits do not meet."
    )


def _separable(board: Standings, letters: Mapping[str, str]) -> str:
    groups = groups_of(board)
    if not groups:
        return "The labels tell every two models apart."
    told = "; ".join(
        f"{_letter(k)}: {', '.join(group[:MOST_NAMES])}"
        + (f" and {len(group) - MOST_NAMES:,} more" if len(group) > MOST_NAMES else "")
        for k, group in enumerate(groups[:MOST_NAMES])
    )
    more = f"; and {len(groups) - MOST_NAMES:,} more groups" if len(groups) > MOST_NAMES else ""
    free = [name for name in letters if not letters[name]]
    alone = f" Told apart from all others: {', '.join(free[:MOST_NAMES])}." if free else ""
    return (
        "Not separable by these labels, at 95 % for all pairs at once: models that share a letter. "
        f"{told}{more}.{alone}"
    )


def _letters(board: Standings) -> Mapping[str, str]:
    """The groups that each model is in."""
    groups = groups_of(board)
    return {
        each.model: " ".join(_letter(k) for k, group in enumerate(groups) if each.model in group)
        for each in board.models
        if each.estimate is not None
    }


def _letter(place: int) -> str:
    return ascii_lowercase[place] if place < len(ascii_lowercase) else f"g{place + 1}"


def _correlation_text(found: Correlation) -> str:
    rho, tau = (figures.decimal(value, "").text for value in (found.spearman, found.kendall))
    p_rho, p_tau = (figures.pvalue(value).text for value in (found.spearman_pvalue, found.kendall_pvalue))
    return (
        f"Do the judges alone order the {found.models:,} models as people alone do? Spearman {rho} "
        f"(p {p_rho}), Kendall {tau} (p {p_tau}); p is the chance of "
        "so close an order, or so opposite a one, by accident."
    )


def _board_table(board: Standings, task: Task, letters: Mapping[str, str]) -> Table:
    few = any(not each.usable for each in board.models) and board.method == "mean"
    rows = []
    for each in board.models:
        cells = [_place(each), words(each.model), words(letters.get(each.model) or "")]
        cells += [_value(board, task, each.estimate, each.reason), _limits(board, task, each.interval)]
        cells += [_limits(board, task, each.label_only)] if few else []
        cells += [count(each.labels), count(each.rows)]
        cells += [_value(board, task, value, "") for value in (each.by_judges, each.by_people)]
        rows.append(Row(tuple(cells)))
    figure = "Strength" if board.method == "bradley_terry" else secondary.named(task)[0]
    figure = "Win rate" if figure.startswith("Win rate") else figure
    titles = [figure, AT_ONCE, *(["From labels alone"] if few else []), "Labels", "Rows"]
    titles += ["Judges alone", "People alone"]
    columns = (Column("Place"), Column("Model"), Column("Group"), *(Column(title, True) for title in titles))
    return Table("Models, best first", columns, tuple(rows))


def _place(each: Standing) -> Figure:
    if each.first_place is None or each.last_place is None:
        return missing("")
    if each.first_place == each.last_place:
        return words(f"{each.first_place}")
    return words(f"{each.first_place} to {each.last_place}")


def _value(board: Standings, task: Task, value: float | None, why: str) -> Figure:
    if value is None:
        return missing(why)
    if board.method == "bradley_terry" or task.kind is TaskKind.RATING:
        return figures.decimal(value, why, 2)
    return figures.ratio(value, 1.0)


def _limits(board: Standings, task: Task, limits: tuple[float, float] | None) -> Figure:
    if limits is None:
        return missing("")
    if board.method == "bradley_terry" or task.kind is TaskKind.RATING:
        return words(f"{limits[0]:.2f} to {limits[1]:.2f}")
    return words(figures.interval(*limits))


def _chart(board: Standings, task: Task) -> Intervals | None:
    bars = [
        Interval(each.model, each.estimate, each.interval if each.usable else each.label_only)
        for each in board.models
        if each.estimate is not None
    ]
    if not bars:
        return None
    percent = board.method == "mean" and task.kind is not TaskKind.RATING
    title = "strength" if board.method == "bradley_terry" else secondary.named(task)[0].lower()
    title = "win rate" if title.startswith("win rate") else title
    shown = f", the first {MOST_BARS} of {len(bars):,} models" if len(bars) > MOST_BARS else ""
    alt = (
        f"Estimates with limits for {min(len(bars), MOST_BARS)} models, best at the top; the table below has "
        "the figures."
    )
    return Intervals(f"{title}, with limits{shown}", tuple(bars[:MOST_BARS]), percent, alt)
