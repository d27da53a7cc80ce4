"""Contents of the tables of a comparison; `table_files` writes them as CSV and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from terrazzo.comparison.compare import Comparison, differing_settings
from terrazzo.evaluation.extra_scores import ExtraIntervals
from terrazzo.metrics import confidence_intervals
from terrazzo.metrics.confidence_intervals import SCALARS, Interval, ScoreIntervals

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
_THIN_SPACE = "\u2009"

Entry = Interval | str | float | int | None
"""Content of a cell; None where the value is not known."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: its heading.
        signed: whether its intervals are differences, which get a sign, and a star where they
            exclude zero.
        bounds: CSV headings of the ends of its intervals; None for "TITLE low" and "TITLE high".
    """

    title: str
    signed: bool = False
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


def scores(comparison: Comparison) -> Table:
    """Return all scores and paired differences, one a row.

    Rows of differences have the name of the run that is subtracted in the column ``minus``.
    """
    names = [run.name for run in comparison.competitors]
    level = comparison.intervals.runs[0].level
    rows: list[tuple[Entry, ...]] = []
    for name, found in zip(names, comparison.intervals.runs, strict=True):
        rows += [(name, "", *row, "", found.level) for row in _score_rows(comparison, found)]
    for name, extra in zip(names, comparison.extra, strict=True):
        rows += [(name, "", *row, "", level) for row in _extra_rows(comparison, extra)]
        to_first = _boundary_rows(comparison, "boundary_iou", extra.boundary_to_first)
        rows += [(name, names[0], *row, _excludes_zero(row[-1]), level) for row in to_first]
    for (i, j), found in comparison.intervals.differences.items():
        if i < j:
            rows += [
                (names[i], names[j], *row, _excludes_zero(row[-1]), found.level)
                for row in _score_rows(comparison, found)
            ]
    columns = (
        *map(Column, ("run", "minus", "score", "class")),
        Column("estimate", bounds=("low", "high")),
        *map(Column, ("excludes_zero", "level")),
    )
    return Table("scores", f"All scores {_where(comparison)}", columns, tuple(rows))


def ranking(comparison: Comparison) -> Table:
    """Return the scores over all classes, one run a row."""
    rows: tuple[tuple[Entry, ...], ...] = tuple(
        (run.name, *(found.scalars[score] for score in _RANKING_SCORES.values()))
        for run, found in zip(comparison.competitors, comparison.intervals.runs, strict=True)
    )
    columns = tuple(map(Column, ("run", *_RANKING_SCORES)))
    return Table("ranking", f"Scores {_where(comparison)}", columns, rows)


def ranking_with_differences(comparison: Comparison) -> Table:
    """Return the ranking for a paper: mean IoU, its difference to the first run, other means."""
    rows: list[tuple[Entry, ...]] = []
    for number, run in enumerate(comparison.competitors):
        scalars = comparison.intervals.runs[number].scalars
        difference = (
            comparison.intervals.differences[number, 0].scalars["mean_iou"] if number else None
        )
        means = (scalars[f"mean_{score}"] for score in ("precision", "recall", "f1"))
        rows.append((run.name, scalars["mean_iou"], difference, *means))
    columns = (
        Column("Run"),
        Column("Mean IoU"),
        Column("Difference to the first", signed=True),
        *map(Column, ("Mean precision", "Mean recall", "Mean F1")),
    )
    found = comparison.intervals.runs[0]
    caption = (
        f"Scores on {len(comparison.images)} {comparison.split} images. Pixels are summed over "
        "the split; means are unweighted, over the classes in truth or prediction; ignored pixels "
        f"count nowhere. In brackets, {100 * found.level:g}{_THIN_SPACE}% bootstrap intervals over "
        f"{found.units} {comparison.bootstrap_units}. * The interval of the paired difference "
        "excludes zero (not corrected for the number of comparisons)."
    )
    return Table("ranking", caption, columns, tuple(rows))


def differences(comparison: Comparison) -> Table:
    """Return the paired differences of the mean IoU, row minus column."""
    names = [run.name for run in comparison.competitors]
    found = comparison.intervals.differences
    rows = []
    for i, name in enumerate(names):
        row = [found[i, j].scalars["mean_iou"] if i != j else "" for j in range(len(names))]
        rows.append((name, *row))
    return Table(
        "pairs",
        "Mean IoU of the run in the row minus that of the run in the column, "
        f"{_where(comparison)} "
        "* The interval excludes zero (not corrected for the number of pairs).",
        (Column("run"), *(Column(name, signed=True) for name in names)),
        tuple(rows),
    )


def class_scores(comparison: Comparison, key: str) -> Table:
    """Return one score of each class, a run a column; `key` is one of `CLASS_SCORES`."""
    runs = comparison.intervals.runs
    rows: list[tuple[Entry, ...]] = [
        (name, *(run.per_class[key][k] for run in runs))
        for k, name in enumerate(comparison.label_map.names)
    ]
    rows.append(("Mean", *(run.scalars[f"mean_{key}"] for run in runs)))
    caption = f"{CLASS_SCORES[key]} of each class {_where(comparison)}"
    return Table(key, caption, _run_columns("class", comparison), tuple(rows), ends_in_mean=True)


def cost(comparison: Comparison) -> Table:
    """Return model size, training time and device of each run."""
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
            run.measured_speed.get("milliseconds"),
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
        "peak memory bytes",
        "multiply-adds",
        "milliseconds an image",
        "device",
    )
    return Table("cost", "Size and time of training.", tuple(map(Column, titles)), rows)


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


def _where(comparison: Comparison) -> str:
    found = comparison.intervals.runs[0]
    return (
        f"on {len(comparison.images)} {comparison.split} images, with "
        f"{100 * found.level:g} % bootstrap intervals over {found.units} "
        f"{comparison.bootstrap_units}."
    )


_ScoreRow = tuple[str, str, Interval]
"""Key of the score, name of the class or "", and the interval."""


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


def _excludes_zero(interval: Interval) -> str:
    return str(interval.excludes_zero).lower()
