"""The page of a comparison, from its numbers to HTML."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from terrazzo.comparison import verdicts
from terrazzo.comparison.compare import Comparison, differing_settings
from terrazzo.comparison.methods import Method
from terrazzo.comparison.tables import CLASS_SCORES, NETWORKS_MARK
from terrazzo.evaluation.extra_scores import (
    BOUNDARY_DEFINITION,
    CALIBRATION_DEFINITION,
    ExtraIntervals,
)
from terrazzo.evaluation.stored import ExampleFiles, column
from terrazzo.metrics.confidence_intervals import (
    MIN_IMAGES,
    MIN_SEEDS,
    Interval,
    ScoreIntervals,
)
from terrazzo.report import (
    comparison_examples,
    confusion_matrix,
    page_assets,
    reliability_curves,
    scene_overviews,
)
from terrazzo.report import comparison_figures as figures
from terrazzo.report.comparison_examples import ComparedExample
from terrazzo.report.confusion_matrix import Cell
from terrazzo.report.learning_curve import learning_curve_svg, learning_curves
from terrazzo.report.palettes import NUM_RUN_COLOURS, PAGE_PALETTE, run_sign
from terrazzo.report.reliability_curves import ClassCalibration
from terrazzo.report.split_view import MAX_EXAMPLES


@dataclass(frozen=True)
class RunView:
    """One run as the page shows it.

    Attributes:
        number: from 0, in the order of the comparison.
        name: name of the run.
        colour: number of its CSS variable ``--run-…``.
        sign: its marker as a character.
        intervals: intervals of its scores.
        to_first: intervals of the paired differences to the first run; None for the first.
        model: name of the model.
        backend: name of the backend.
        parameters: number of parameters of the model.
        seconds: training time.
        steps_per_second: median training speed.
        memory: peak memory in bytes.
        speed: what `terrazzo speed` measured; empty where it was not asked.
        device: device of the training.
        extra: intervals of boundary and calibration scores.
        calibration: calibration of each class; None where not counted.
        matrix: cells of the confusion matrix; None with too many classes.
    """

    number: int
    name: str
    colour: int
    sign: str
    intervals: ScoreIntervals
    to_first: ScoreIntervals | None
    model: str
    backend: str
    parameters: int | None
    seconds: float | None
    steps_per_second: float | None
    memory: int | None
    speed: dict[str, Any]
    device: str | None
    extra: ExtraIntervals
    calibration: ClassCalibration | None
    matrix: list[list[Cell]] | None


@dataclass(frozen=True)
class ClassRow:
    """One score of one class in all runs, and whether each differs from the first.

    Attributes:
        name: of the class.
        colour: of the class.
        images: images or groups that hold it.
        found: score of each run.
        differs: verdict of each run, adjusted for all classes and pairs.
    """

    name: str
    colour: str
    images: int | None
    found: tuple[Interval, ...]
    differs: tuple[bool, ...]


@dataclass(frozen=True)
class MethodRow:
    """One method, over its seeds.

    Attributes:
        method: with the spread of its mean IoU.
        runs: names of its runs.
        found: mean IoU over images and seeds; None with too few seeds.
        to_first: difference to the first method; None for the first, and with too few seeds.
    """

    method: Method
    runs: tuple[str, ...]
    found: Interval | None
    to_first: Interval | None


@dataclass(frozen=True)
class ImageRow:
    """One image by itself in all runs."""

    name: str
    iou: tuple[float, ...]
    range: float


def render(comparison: Comparison) -> str:
    """Return the page; the same comparison gives the same text."""
    summary = comparison.competitors[0].scored.summary
    first = comparison.intervals.runs[0]
    runs = range(len(comparison.competitors))
    values = {
        "split": comparison.split,
        "label_map": comparison.label_map,
        "num_images": len(comparison.images),
        "present": int(np.count_nonzero(np.asarray(summary["counts"]).sum(axis=1))),
        "pixels_counted": summary["pixels_counted"],
        "pixels_ignored": summary["pixels_ignored"],
        "definition": _sentence(summary["definition"]),
        "level": first.level,
        "draws": comparison.intervals.draws,
        "num_units": first.units,
        "few_units": MIN_IMAGES,
        "min_seeds": MIN_SEEDS,
        "few_classes": _few_classes(comparison),
        "one_seed": verdicts.ONE_SEED,
        "judges_methods": comparison.judges_methods,
        "mark": NETWORKS_MARK,
        "networks": verdicts.NETWORKS,
        "of_methods": verdicts.METHODS,
        "grouped": comparison.groups is not None,
        "units": comparison.units,
        "num_pairs": len(runs) * (len(runs) - 1) // 2,
        "runs": [_run(comparison, number) for number in runs],
        "pairs": [[_difference(comparison, i, j) for j in runs] for i in runs],
        "methods": _methods(comparison),
        "class_figures": {
            title: _class_figure(comparison, title, key) for key, title in CLASS_SCORES.items()
        },
        "class_tables": {
            title: _class_rows(comparison, key) for key, title in CLASS_SCORES.items()
        },
        "boundary_definition": _boundary_definition(comparison),
        "calibration": _calibration(comparison),
        "maps": scene_overviews.encode(
            [run.scored.maps for run in comparison.competitors],
            [run.name for run in comparison.competitors],
            comparison.label_map,
        ),
        "curves": _curves(comparison),
        "examples": _examples(comparison),
        "images": _images(comparison),
        "settings": differing_settings(comparison),
    }
    return page_assets.render(
        "compare.html",
        values,
        styles=("page.css", "compare.css"),
        scripts=("page.js", "compare.js"),
    )


def _run(comparison: Comparison, number: int) -> RunView:
    run = comparison.competitors[number]
    return RunView(
        number=number,
        name=run.name,
        colour=number % NUM_RUN_COLOURS + 1,
        sign=run_sign(number),
        intervals=comparison.intervals.runs[number],
        to_first=comparison.intervals.differences[number, 0] if number else None,
        model=run.record.config.model.name,
        backend=run.record.config.backend,
        parameters=run.record.run.get("num_parameters"),
        seconds=run.training_seconds,
        steps_per_second=run.steps_per_second,
        memory=run.peak_memory,
        speed=run.measured_speed,
        device=run.record.run.get("device"),
        extra=comparison.extra[number],
        calibration=reliability_curves.class_calibration(run.scored.extra),
        matrix=confusion_matrix.cells(run.counts_KK),
    )


def _difference(comparison: Comparison, i: int, j: int) -> Interval | None:
    return None if i == j else comparison.intervals.differences[i, j].scalars["mean_iou"]


def _class_figure(comparison: Comparison, title: str, key: str) -> str:
    runs = comparison.intervals.runs
    figure = figures.class_scores_svg(
        title,
        comparison.label_map.names,
        [run.per_class[key] for run in runs],
        [run.scalars[f"mean_{key}"] for run in runs],
    )
    return Markup(figure)  # noqa: S704 - matplotlib escapes the class names


def _class_rows(comparison: Comparison, key: str) -> list[ClassRow]:
    found = comparison.intervals
    rows = []
    for k, each in enumerate(comparison.label_map.classes):
        differs = [
            found.differences[number, 0].per_class[key][k].excludes_zero
            for number in range(1, len(found.runs))
        ]
        scores = tuple(run.per_class[key][k] for run in found.runs)
        rows.append(ClassRow(each.name, each.colour, scores[0].images, scores, (False, *differs)))
    return rows


def _few_classes(comparison: Comparison) -> list[tuple[str, int]]:
    """Return the classes that too few images hold for an interval, with the number of these."""
    found = comparison.intervals.runs[0].per_class["iou"]
    return [
        (name, each.images or 0)
        for name, each in zip(comparison.label_map.names, found, strict=True)
        if each.too_few
    ]


def _methods(comparison: Comparison) -> list[MethodRow]:
    by_method = comparison.by_method
    judged = [] if by_method is None else list(by_method.methods)
    rows = []
    for method in comparison.methods:
        names = tuple(comparison.competitors[run].name for run in method.runs)
        found = to_first = None
        if by_method is not None and method in judged:
            number = judged.index(method)
            found = by_method.intervals.runs[number].scalars["mean_iou"]
            if number:
                to_first = by_method.intervals.differences[number, 0].scalars["mean_iou"]
        rows.append(MethodRow(method, names, found, to_first))
    return sorted(rows, key=lambda row: row.found is None)  # methods that are judged come first


def _boundary_definition(comparison: Comparison) -> str | None:
    """Return the definition of the boundary scores; None where no run has counted them."""
    counted = any(each.boundary for each in comparison.extra)
    return _sentence(BOUNDARY_DEFINITION) if counted else None


def _calibration(comparison: Comparison) -> dict[str, Any] | None:
    """Return what the section of calibration shows; None where no run has counted it."""
    if not any(each.calibration for each in comparison.extra):
        return None
    extra = [run.scored.extra for run in comparison.competitors]
    return {
        "definition": _sentence(CALIBRATION_DEFINITION.replace("_", " ")),
        "min_bin_pixels": reliability_curves.MIN_BIN_PIXELS,
        "figures": reliability_curves.figures(extra, comparison.label_map),
    }


def _sentence(definition: str) -> str:
    return f"{definition[0].upper()}{definition[1:]}."


def _curves(comparison: Comparison) -> dict[str, str]:
    runs = comparison.competitors
    drawn = {
        "Mean IoU by training images": learning_curve_svg(
            learning_curves(comparison), PAGE_PALETTE
        ),
        "Validation mean IoU": figures.run_curves_svg(
            "Mean IoU", [column(run.record.log, "validation", "mean_iou") for run in runs]
        ),
        "Training loss": figures.run_curves_svg(
            "Training loss", [column(run.record.log, "train", "loss") for run in runs]
        ),
    }
    return {
        title: Markup(figure)  # noqa: S704 - drawn from numbers alone
        for title, figure in drawn.items()
        if figure
    }


def _images(comparison: Comparison) -> list[ImageRow]:
    """Return images that have a counted pixel, lowest mean over all runs first."""
    rows = [
        ImageRow(name, tuple(map(float, iou_R)), float(iou_R.max() - iou_R.min()))
        for name, iou_R in zip(comparison.images, comparison.image_iou_NR, strict=True)
        if not np.isnan(iou_R).any()
    ]
    return sorted(rows, key=lambda row: (sum(row.iou), row.name))


def _examples(comparison: Comparison) -> tuple[ComparedExample, ...]:
    """Return the examples that every run has stored, worst first."""
    stored = [{e.name: e for e in run.scored.examples} for run in comparison.competitors]
    known = {
        name: tuple(map(float, iou_R))
        for name, iou_R in zip(comparison.images, comparison.image_iou_NR, strict=True)
    }
    shared = [name for name in stored[0] if all(name in each for each in stored)]
    shared.sort(key=lambda name: (_total(known.get(name, ())), name))
    chosen: list[tuple[list[ExampleFiles], tuple[float, ...]]] = [
        ([each[name] for each in stored], known.get(name, ())) for name in shared[:MAX_EXAMPLES]
    ]
    names = [run.name for run in comparison.competitors]
    return comparison_examples.encode(chosen, names, comparison.label_map)


def _total(scores: tuple[float, ...]) -> float:
    """Return a key for sorting; infinity where a score is not known, so that it comes last."""
    total = sum(scores)
    return math.inf if not scores or math.isnan(total) else total
