"""Report the leaderboard: models ranked by human labels and predictions, with simultaneous limits."""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

from trustescalate.records import Correlation, Run, Standing, Standings, Task, TaskKind
from trustescalate.records.standings import groups_of
from trustescalate.report import figures
from trustescalate.report.bars import interval_chart, listed, short
from trustescalate.report.figures import Figure, count, missing, words
from trustescalate.report.overall import limits_figure, mean_figure, mean_name
from trustescalate.report.pictures import Interval, Intervals
from trustescalate.report.sections import Column, Row, Section, Table, numbers
from trustescalate.stats.inference import MIN_CLUSTERS, MIN_LABELS, MIN_RARE

_SIMULTANEOUS = "95 % simultaneous limits"
MOST_NAMES = 12
"""A sentence names at most so many models."""
_MEAN_GUARD = (
    f"The limits are asymptotic. Those of a model are shown from {MIN_LABELS} labels on, of which "
    f"{MIN_RARE} differ from the most common one, on {MIN_CLUSTERS} independent items (one per cluster), "
    f"where the errors of the predictions rest on {MIN_RARE} labels or more: under these conditions their "
    "measured failure rate was about the nominal one."
)
_STRENGTH_GUARD = (
    f"The limits are asymptotic. They are shown from {MIN_LABELS} labels on, with {MIN_RARE} wins and "
    f"{MIN_RARE} losses of each model on {MIN_CLUSTERS} independent items (one per cluster), where "
    f"the errors of the predictions rest on {MIN_RARE} labelled games of each or more; from 200 labels on "
    "their measured failure rate was at most the nominal one."
)


def leaderboard_section(run: Run) -> Section | None:
    """Rank the models whose responses were judged; None where no models are named."""
    board, task = run.standings, run.header.certificate.task
    if board is None:
        return None
    letters = _letters(board)
    measured = [each for each in board.models if each.estimate is not None]
    text = [_method_text(board, task), *([_left_out(board)] if board.left_out else [])]
    if board.reason:
        why = f"The leaderboard could not be measured: {board.reason}."
        return Section("leaderboard", "Leaderboard", (why, *text))
    text = [*([_lead(board, task)] if measured else []), *text]
    text += [
        _separable_text(board, letters),
        _STRENGTH_GUARD if board.method == "bradley_terry" else _MEAN_GUARD,
    ]
    if any(not each.usable for each in measured):
        text.append(_few_labels_text(board, measured))
    if board.correlation is not None:
        text.append(_correlation_text(board.correlation))
    tables = (_board_table(board, task, letters),)
    return Section("leaderboard", "Leaderboard", tuple(text), _chart(board, task, letters), tables)


def _lead(board: Standings, task: Task) -> str:
    """Name the first model, and the models that it is not separable from."""
    first = next(each for each in board.models if each.estimate is not None)
    plain = board.method == "bradley_terry" or task.kind is TaskKind.RATING
    limits = limits_figure(first.interval if first.usable else first.label_only, plain).text
    value = f"{mean_figure(first.estimate, plain).text} ({_SIMULTANEOUS} {limits})"
    lead = f"{short(first.model)} has the highest {_measured(board, task).lower()} of "
    lead += f"{len(board.models):,} models: {value}"
    near = [
        name for pair in board.not_separable if first.model in pair for name in pair if name != first.model
    ]
    if near:
        return f"{lead}. These labels do not separate it from {listed(near, 3)}."
    return f"{lead}. These labels separate it from every other model that was measured."


def _method_text(board: Standings, task: Task) -> str:
    what = {
        TaskKind.PAIRWISE: "how often annotators prefer its response to the other, a tie counting one half",
        TaskKind.RATING: "its mean human rating",
    }.get(task.kind, f"how often annotators label it {task.labels[0]!r}")
    if board.method == "bradley_terry":
        what = (
            "its Bradley-Terry strength (log-odds; strengths sum to 0, and a lead of 1 over another model "
            "means that annotators prefer it 73 % of the time)"
        )
    paired = " Rows of one item are clustered, and are compared within it." if board.paired else ""
    return (
        f"For each model, {what}, over all {board.rows:,} judged rows, abstained ones included. Predictions "
        f"for all of them are corrected by {board.labels:,} human labels (prediction-powered inference, "
        f"PPI++). The labelled rows are assumed to be a random draw of each model's rows.{paired}"
    )


def _left_out(board: Standings) -> str:
    return f"Left out: {board.left_out:,} rows that name no model, or one model twice."


def _few_labels_text(board: Standings, measured: Sequence[Standing]) -> str:
    few = [each for each in measured if not each.usable]
    if board.method == "bradley_terry":
        return f"There are too few labels for limits on strengths ({few[0].reason}), so no limits are shown."
    return (
        f"{len(few):,} of {len(measured):,} models have too few labels for the interval that uses "
        "predictions. For these use the limits from labels alone; they are called better or worse only "
        "where these limits do not overlap."
    )


def _separable_text(board: Standings, letters: Mapping[str, str]) -> str:
    groups = groups_of(board)
    if not groups:
        return "The labels separate every pair of models."
    lettered = "; ".join(
        f"{_letter(k)}: {', '.join(group[:MOST_NAMES])}"
        + (f" and {len(group) - MOST_NAMES:,} more" if len(group) > MOST_NAMES else "")
        for k, group in enumerate(groups[:MOST_NAMES])
    )
    more = f"; and {len(groups) - MOST_NAMES:,} more groups" if len(groups) > MOST_NAMES else ""
    free = [name for name in letters if not letters[name]]
    alone = f" Separable from all others: {', '.join(free[:MOST_NAMES])}." if free else ""
    return (
        "Models that share a letter are not separable by these labels, at 95 % for all pairs simultaneously. "
        f"{lettered}{more}.{alone}"
    )


def _letters(board: Standings) -> Mapping[str, str]:
    """Map each model to the letters of its groups."""
    groups = groups_of(board)
    return {
        each.model: " ".join(_letter(k) for k, group in enumerate(groups) if each.model in group)
        for each in board.models
        if each.estimate is not None
    }


def _letter(place: int) -> str:
    return ascii_lowercase[place] if place < len(ascii_lowercase) else f"g{place + 1}"


def _correlation_text(ranks: Correlation) -> str:
    rho, tau = (figures.decimal(value, "").text for value in (ranks.spearman, ranks.kendall))
    p_rho, p_tau = (figures.pvalue(value).text for value in (ranks.spearman_pvalue, ranks.kendall_pvalue))
    return (
        f"Rank correlation of the {ranks.models:,} models between the judges alone and human labels alone: "
        f"Spearman {rho} (p {p_rho}), Kendall {tau} (p {p_tau}), two-sided."
    )


def _board_table(board: Standings, task: Task, letters: Mapping[str, str]) -> Table:
    few = any(not each.usable for each in board.models) and board.method == "mean"
    plain = board.method == "bradley_terry" or task.kind is TaskKind.RATING
    rows = []
    for each in board.models:
        cells = [_rank(each), words(each.model), words(letters.get(each.model) or "")]
        cells += [mean_figure(each.estimate, plain, each.reason), limits_figure(each.interval, plain)]
        cells += [limits_figure(each.label_only, plain)] if few else []
        cells += [count(each.labels), count(each.rows)]
        cells += [mean_figure(value, plain) for value in (each.by_judges, each.by_people)]
        rows.append(Row(tuple(cells)))
    figure = _measured(board, task)
    titles = [figure, _SIMULTANEOUS, *(["From labels alone"] if few else []), "Labels", "Rows"]
    titles += ["Judges alone", "Human labels alone"]
    columns = (Column("Rank"), Column("Model"), Column("Not separable"), *numbers(*titles))
    return Table("Models, best first", columns, tuple(rows))


def _rank(each: Standing) -> Figure:
    if each.first_place is None or each.last_place is None:
        return missing("")
    if each.first_place == each.last_place:
        return words(f"{each.first_place}")
    return words(f"{each.first_place} to {each.last_place}")


def _measured(board: Standings, task: Task) -> str:
    return "Strength" if board.method == "bradley_terry" else mean_name(task)[0].removesuffix(" of A")


def _chart(board: Standings, task: Task, letters: Mapping[str, str]) -> tuple[Intervals, ...]:
    bars = [
        Interval(
            each.model,
            each.estimate,
            each.interval if each.usable else each.label_only,
            letters.get(each.model, ""),
        )
        for each in board.models
        if each.estimate is not None
    ]
    percent = board.method == "mean" and task.kind is not TaskKind.RATING
    title = f"{_measured(board, task)} of each model, {_SIMULTANEOUS}; a shared letter: not separable"
    return interval_chart(title, bars, percent=percent)
