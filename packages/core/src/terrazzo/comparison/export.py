"""What a comparison writes: its page, and its tables as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

from terrazzo.comparison.compare import Comparison
from terrazzo.evaluation.extra_scores import ExtraIntervals
from terrazzo.metrics.confidence_intervals import PER_CLASS, SCALARS, Interval, ScoreIntervals

_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def as_csv(comparison: Comparison) -> str:
    """Return one row a score, with its interval; differences have the other run in ``minus``.

    An undefined score is an empty field.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["run", "minus", "score", "class", "estimate", "low", "high", "excludes_zero", "level"]
    )
    names = [each.name for each in comparison.competitors]
    for name, found in zip(names, comparison.intervals.runs, strict=True):
        for score, of_class, interval in _rows(comparison, found):
            writer.writerow([name, "", score, of_class, *_numbers(interval), "", found.level])
    level = comparison.intervals.runs[0].level
    for name, extra in zip(names, comparison.extra, strict=True):
        for score, of_class, interval in _further_rows(comparison, extra):
            writer.writerow([name, "", score, of_class, *_numbers(interval), "", level])
        for score, of_class, interval in _boundary_rows(
            comparison, "boundary_iou", extra.boundary_to_first
        ):
            verdict = str(interval.excludes_zero).lower()
            row = [name, names[0], score, of_class, *_numbers(interval), verdict, level]
            writer.writerow(row)
    for (i, j), found in comparison.intervals.differences.items():
        if i < j:
            for score, of_class, interval in _rows(comparison, found):
                verdict = str(interval.excludes_zero).lower()
                writer.writerow(
                    [names[i], names[j], score, of_class, *_numbers(interval), verdict, found.level]
                )
    return buffer.getvalue()


def as_latex(comparison: Comparison) -> str:
    """Return a table for the LaTeX package booktabs: mean IoU, its lead, and the other means."""
    runs = comparison.intervals.runs
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(comparison)}}}",
        r"\begin{tabular}{lrrrrr}",
        r"\toprule",
        r"Run & Mean IoU & Difference to the first & Mean precision & Mean recall & Mean F1 \\",
        r"\midrule",
    ]
    for number, (run, found) in enumerate(zip(comparison.competitors, runs, strict=True)):
        lead = "--"
        if number:
            difference = comparison.intervals.differences[number, 0].scalars["mean_iou"]
            lead = latex_interval(difference, signed=True)
            lead += "*" if difference.excludes_zero else ""
        means = [found.scalars[f"mean_{score}"] for score in ("precision", "recall", "f1")]
        cells = [
            escape(run.name),
            latex_interval(found.scalars["mean_iou"]),
            lead,
            *(latex_interval(mean) for mean in means),
        ]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _caption(comparison: Comparison) -> str:
    found = comparison.intervals.runs[0]
    drawn = "images" if comparison.groups is None else "groups of images"
    split = escape(comparison.split)
    return (
        f"Scores on {len(comparison.images)} {split} images. Pixels are summed over the split; "
        "means are unweighted, over the classes in truth or prediction; ignored pixels count "
        f"nowhere. In brackets, {100 * found.level:g}\\,\\% bootstrap intervals over "
        f"{found.units} {drawn}. * The interval of the paired difference excludes zero "
        "(not corrected for the number of comparisons)."
    )


def _rows(comparison: Comparison, found: ScoreIntervals) -> Iterator[tuple[str, str, Interval]]:
    for score in SCALARS:
        yield score, "", found.scalars[score]
    for score in PER_CLASS:
        for name, interval in zip(comparison.label_map.names, found.per_class[score], strict=True):
            yield score, name, interval


def _further_rows(
    comparison: Comparison, extra: ExtraIntervals
) -> Iterator[tuple[str, str, Interval]]:
    yield from _boundary_rows(comparison, "boundary_iou", extra.boundary)
    yield from _boundary_rows(comparison, "trimap_iou", extra.trimap)
    # Both, or none where probabilities were not counted.
    names = ("expected_calibration_error", "brier")
    for score, interval in zip(names, extra.calibration, strict=False):
        yield score, "", interval


def _boundary_rows(
    comparison: Comparison, score: str, found: tuple[Interval, ...]
) -> Iterator[tuple[str, str, Interval]]:
    if found:
        yield f"mean_{score}", "", found[0]
        for name, interval in zip(comparison.label_map.names, found[1:], strict=True):
            yield score, name, interval


def _numbers(interval: Interval) -> list[str]:
    values = (interval.estimate, interval.low, interval.high)
    return ["" if math.isnan(value) else f"{value:.6f}" for value in values]


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return text.translate(_LATEX)


def latex_interval(interval: Interval, *, signed: bool = False) -> str:
    """Return a score and its ends in brackets, with signs where it is a difference."""
    if math.isnan(interval.estimate):
        return "--"
    sign = "+" if signed else ""
    values = (interval.estimate, interval.low, interval.high)
    estimate, low, high = (f"{value:{sign}.3f}" for value in values)
    return f"${estimate}$ [${low}$, ${high}$]"
