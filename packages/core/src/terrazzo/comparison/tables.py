"""Contents of the tables of a comparison; `table_files` writes them as CSV and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from terrazzo.comparison import verdicts
from terrazzo.comparison.compare import Comparison, differing_settings
from terrazzo.evaluation.extra_scores import ExtraIntervals
from terrazzo.metrics import confidence_intervals
from terrazzo.metrics.confidence_intervals import (
    SCALARS,
    Interval,
    RunIntervals,
    ScoreIntervals,
)

CLASS_SCORES = {"iou": "IoU", "precision": "Precision", "recall": "Recall", "f1": "F1"}
"""Titles of the scores of single classes, by their keys in `ScoreIntervals.per_class`."""
_RANKING_SCORES = {
    "mean IoU": "mean_iou",
    "mean precision": "mean_precision",
    "mean recall": "mean_recall",
    "mean F1": "mean_f1",
    "pixel accuracy": "pixel_accuracy",
    "micro IoU": "micro_iou",  # files that exist have this heading
}
_MOST_CHARACTERS = 60
"""Of a run in the name of a file: systems allow some 255 bytes for the whole."""
NETWORKS_MARK, METHODS_MARK = "†", "*"
"""Of differences between trained networks, and of those between methods."""
_THIN_SPACE = "\u2009"

Entry = Interval | str | float | int | None
"""Content of a cell; None where the value is not known."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: its heading.
        signed: whether its intervals are differences, which get a sign.
        mark: of differences that are found, adjusted for all of the table; none for a score.
        bounds: CSV headings of the ends of its intervals; None for "TITLE low" and "TITLE high".
    """

    title: str
    signed: bool = False
    mark: str = ""
    bounds: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: name of its files, without suffix.
        caption: plain text.
        columns: headings and formats.
        rows: each as long as `columns`.
        ends_in_mean: whether the last row is the mean of the others.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    ends_in_mean: bool = False


_ScoreRow = tuple[str, str, Interval]
"""Key of the score, name of the class or "", and the interval."""

_Row = tuple[Entry, ...]
_SCORE_COLUMNS = (
    Column("estimate", bounds=("low", "high")),
    *map(Column, ("excludes_zero", "level", "images", "adjusted_low", "adjusted_high", "verdict")),
)


def scores(comparison: Comparison) -> Table:
    """Return all scores and paired differences, one a row.

    Rows of differences have the name of the run that is subtracted in the column ``minus``. Their
    verdicts hold for all of the table at once.
    """
    names = [run.name for run in comparison.competitors]
    level = comparison.intervals.runs[0].level
    rows = _own_rows(comparison, names, comparison.intervals.runs)
    for name, extra in zip(names, comparison.extra, strict=True):
        rows += [(name, "", *_cells(row, level, "")) for row in _extra_rows(comparison, extra)]
        to_first = _boundary_rows(comparison, "boundary_iou", extra.boundary_to_first)
        rows += [(name, names[0], *_cells(row, level, verdicts.NETWORKS)) for row in to_first]
    pairs = comparison.intervals.all_at_once
    rows += _difference_rows(comparison, names, pairs, verdicts.NETWORKS)
    columns = (*map(Column, ("run", "minus", "score", "class")), *_SCORE_COLUMNS)
    return Table("scores", f"All scores {_where(comparison)}", columns, tuple(rows))


def method_scores(comparison: Comparison) -> Table | None:
    """Return the same of methods, over images and seeds; None where none has seeds enough."""
    if comparison.by_method is None:
        return None
    found = comparison.by_method.intervals
    names = [method.name for method in comparison.by_method.methods]
    rows = _own_rows(comparison, names, found.runs)
    rows += _difference_rows(comparison, names, found.all_at_once, verdicts.METHODS)
    columns = (*map(Column, ("method", "minus", "score", "class")), *_SCORE_COLUMNS)
    return Table("method_scores", f"All scores {_where(comparison)}", columns, tuple(rows))


def _own_rows(
    comparison: Comparison, names: Sequence[str], found: Sequence[ScoreIntervals]
) -> list[_Row]:
    return [
        (name, "", *_cells(row, each.level, ""))
        for name, each in zip(names, found, strict=True)
        for row in _score_rows(comparison, each)
    ]


def _difference_rows(
    comparison: Comparison,
    names: Sequence[str],
    pairs: dict[tuple[int, int], ScoreIntervals],
    differ: str,
) -> list[_Row]:
    return [
        (names[i], names[j], *_cells(row, each.level, differ))
        for (i, j), each in pairs.items()
        if i < j
        for row in _score_rows(comparison, each)
    ]


def _cells(row: _ScoreRow, level: float, differ: str) -> _Row:
    """Return the cells of `_SCORE_COLUMNS` with what comes before them; `differ` of differences."""
    score, of_class, found = row
    judged = bool(differ) and not math.isnan(found.adjusted_low)
    ends: tuple[Entry, ...] = ("", "")
    if judged:
        ends = (round(found.adjusted_low, 6), round(found.adjusted_high, 6))
    verdict = verdicts.too_few(found) if found.too_few else verdicts.of(found, differ)
    return (
        score,
        of_class,
        found,
        str(found.excludes_zero).lower() if judged else "",
        level,
        found.images,
        *ends,
        verdict if differ or found.too_few else "",
    )


def ranking(comparison: Comparison) -> Table:
    """Return the scores over all classes, one run a row."""
    rows: tuple[tuple[Entry, ...], ...] = tuple(
        (run.name, *(found.scalars[score] for score in _RANKING_SCORES.values()))
        for run, found in zip(comparison.competitors, comparison.intervals.runs, strict=True)
    )
    columns = tuple(map(Column, ("run", *_RANKING_SCORES)))
    return Table("ranking", f"Scores {_where(comparison)}", columns, rows)


def ranking_with_differences(comparison: Comparison) -> Table:
    """Return the ranking for a paper: mean IoU, its difference to the first run, other scores."""
    rows: list[tuple[Entry, ...]] = []
    for number, run in enumerate(comparison.competitors):
        scalars = comparison.intervals.runs[number].scalars
        difference = (
            comparison.intervals.differences[number, 0].scalars["mean_iou"] if number else None
        )
        others = (scalars[score] for score in list(_RANKING_SCORES.values())[1:])
        rows.append((run.name, scalars["mean_iou"], difference, *others))
    columns = (
        Column("Run"),
        Column("Mean IoU"),
        Column("Difference to the first", signed=True, mark=NETWORKS_MARK),
        *(Column(title[0].upper() + title[1:]) for title in list(_RANKING_SCORES)[1:]),
    )
    found = comparison.intervals.runs[0]
    caption = (
        f"Scores on {len(comparison.images)} {comparison.split} images. Pixels are summed over "
        "the split; means are unweighted, over the classes in truth or prediction; pixel accuracy "
        "and micro IoU take all classes together; ignored pixels "
        f"count nowhere. In brackets, {100 * found.level:g}{_THIN_SPACE}% intervals over "
        f"{found.units} {comparison.units}, each for itself. {_mark_says(comparison)}"
    )
    return Table("ranking", caption, columns, tuple(rows))


def _mark_says(comparison: Comparison) -> str:
    num = len(comparison.competitors)
    pairs = f"all {num * (num - 1) // 2} pairs" if num > 2 else "the one pair"
    return (
        f"{NETWORKS_MARK} These two trained networks differ, adjusted for {pairs}. "
        f"{verdicts.of_whom(judges_methods=comparison.judges_methods)}"
    )


def differences(comparison: Comparison) -> Table:
    """Return the paired differences of the mean IoU, row minus column."""
    names = [run.name for run in comparison.competitors]
    caption = (
        "Mean IoU of the run in the row minus that of the run in the column, "
        f"{_where(comparison)} Each interval is that of its pair alone. {_mark_says(comparison)}"
    )
    return _pairs("pairs", caption, names, comparison.intervals, NETWORKS_MARK)


def _pairs(
    name: str, caption: str, names: Sequence[str], intervals: RunIntervals, mark: str
) -> Table:
    found = intervals.differences
    rows = []
    for i, each in enumerate(names):
        row = [found[i, j].scalars["mean_iou"] if i != j else "" for j in range(len(names))]
        rows.append((each, *row))
    columns = (Column("run"), *(Column(each, signed=True, mark=mark) for each in names))
    return Table(name, caption, columns, tuple(rows))


def methods(comparison: Comparison) -> Table | None:
    """Return the methods that have seeds enough; None where there is none."""
    if comparison.by_method is None:
        return None
    by_method = comparison.by_method
    rows: list[_Row] = []
    for number, method in enumerate(by_method.methods):
        difference = (
            by_method.intervals.differences[number, 0].scalars["mean_iou"] if number else None
        )
        rows.append(
            (
                method.name,
                len(method.runs),
                by_method.intervals.runs[number].scalars["mean_iou"],
                method.spread.deviation,
                difference,
                verdicts.of(difference, verdicts.METHODS) if difference else "",
            )
        )
    columns = (
        *map(Column, ("method", "seeds", "mean IoU", "deviation over seeds")),
        Column("difference to the first", signed=True, mark=METHODS_MARK),
        Column("verdict"),
    )
    caption = (
        f"Methods {_where(comparison, 'and seeds')} Scores are means over the seeds; each interval "
        f"stands for itself. {METHODS_MARK} The methods differ, adjusted for all pairs of methods."
    )
    return Table("methods", caption, columns, tuple(rows))


def class_scores(comparison: Comparison, key: str) -> Table:
    """Return one score of each class, a run a column; `key` is one of `CLASS_SCORES`."""
    runs = comparison.intervals.runs
    rows: list[tuple[Entry, ...]] = [
        (name, runs[0].per_class[key][k].images, *(run.per_class[key][k] for run in runs))
        for k, name in enumerate(comparison.label_map.names)
    ]
    rows.append(("Mean", "", *(run.scalars[f"mean_{key}"] for run in runs)))
    caption = (
        f"{CLASS_SCORES[key]} of each class {_where(comparison)} Beside each class, how many of "
        f"them hold it. {verdicts.FEWEST} do."
    )
    columns = (Column("class"), Column("images"), *_run_columns("class", comparison)[1:])
    return Table(key, caption, columns, tuple(rows), ends_in_mean=True)


def cost(comparison: Comparison) -> Table:
    """Return model size, training time, device and peak memory of each run."""
    rows = tuple(
        (
            run.name,
            run.record.config.model.name,
            run.record.config.backend,
            run.record.run.get("num_parameters"),
            run.training_seconds,
            run.steps_per_second,
            run.peak_memory,
            run.measured_speed.get("multiply_adds"),
            run.milliseconds_an_image,
            run.record.run.get("device"),
        )
        for run in comparison.competitors
    )
    titles = (
        "run",
        "model",
        "backend",
        "parameters",
        "seconds",
        "steps a second",
        "peak memory in bytes",
        "multiply-adds",
        "milliseconds an image",
        "device",
    )
    return Table("cost", "Size, time and memory of training.", tuple(map(Column, titles)), rows)


def settings(comparison: Comparison) -> Table:
    """Return the settings that differ, a run a column."""
    rows = tuple((key, *values) for key, values in differing_settings(comparison).items())
    return Table("settings", "Settings that differ.", _run_columns("setting", comparison), rows)


def confusion_matrices(comparison: Comparison) -> Iterator[Table]:
    """Yield the confusion matrix of each run, in pixels."""
    classes = comparison.label_map.names
    columns = tuple(map(Column, ("class", *classes)))
    for file_name, run in zip(run_file_names(comparison), comparison.competitors, strict=True):
        yield Table(
            f"confusion_{file_name}",
            f"Pixels of {run.name}: rows truth, columns prediction.",
            columns,
            tuple((name, *map(int, row)) for name, row in zip(classes, run.counts_KK, strict=True)),
        )


def run_file_names(comparison: Comparison) -> list[str]:
    """Return the names of the runs as parts of file names; all differ."""
    names = [
        re.sub(r"[^\w.-]+", "_", run.name)[:_MOST_CHARACTERS] for run in comparison.competitors
    ]
    return [
        name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)
    ]


def _run_columns(first: str, comparison: Comparison) -> tuple[Column, ...]:
    return tuple(map(Column, (first, *(run.name for run in comparison.competitors))))


def _where(comparison: Comparison, more: str = "") -> str:
    found = comparison.intervals.runs[0]
    units = f"{comparison.units} {more}".rstrip()
    return (
        f"on {len(comparison.images)} {comparison.split} images, with "
        f"{100 * found.level:g} % intervals over {found.units} {units}."
    )


def _score_rows(comparison: Comparison, found: ScoreIntervals) -> Iterator[_ScoreRow]:
    for score in SCALARS:
        yield score, "", found.scalars[score]
    for score in confidence_intervals.PER_CLASS:
        for name, interval in zip(comparison.label_map.names, found.per_class[score], strict=True):
            yield score, name, interval


def _extra_rows(comparison: Comparison, extra: ExtraIntervals) -> Iterator[_ScoreRow]:
    yield from _boundary_rows(comparison, "boundary_iou", extra.boundary)
    yield from _boundary_rows(comparison, "trimap_iou", extra.trimap)
    # Both, or none where probabilities were not counted.
    names = ("expected_calibration_error", "brier")
    for score, interval in zip(names, extra.calibration, strict=False):
        yield score, "", interval


def _boundary_rows(
    comparison: Comparison, score: str, found: tuple[Interval, ...]
) -> Iterator[_ScoreRow]:
    if found:
        yield f"mean_{score}", "", found[0]
        for name, interval in zip(comparison.label_map.names, found[1:], strict=True):
            yield score, name, interval
