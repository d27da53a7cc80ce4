"""From a comparison to its HTML page: what is worked out, rounded and put in order."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from importlib import resources
from statistics import median
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from terrazzo.comparison.compare import Comparison, Competitor, differing_settings
from terrazzo.evaluation.extra_scores import (
    BOUNDARY_DEFINITION,
    CALIBRATION_DEFINITION,
    ExtraIntervals,
)
from terrazzo.evaluation.stored import ExampleFiles
from terrazzo.metrics.confidence_intervals import Interval, ScoreIntervals
from terrazzo.report import comparison_figures as figures
from terrazzo.report import example_layers, reliability, scene_overviews
from terrazzo.report.curves import RUNS
from terrazzo.report.example_layers import Layered
from terrazzo.report.reliability import ClassCalibration
from terrazzo.report.run_page import MAX_EXAMPLES, MAX_MATRIX_CLASSES, Cell, cells, filters

SCORES = {"IoU": "iou", "Precision": "precision", "Recall": "recall", "F1": "f1"}

FEW_UNITS = 10
"""Fewer images or groups than these are too few for a percentile interval to be trusted."""


@dataclass(frozen=True)
class RunView:
    """One run as the page shows it."""

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
    device: str | None
    extra: ExtraIntervals
    calibration: ClassCalibration | None
    matrix: list[list[Cell]] | None


@dataclass(frozen=True)
class ClassRow:
    """One score of one class in all runs; `told` where it differs from the first run's."""

    name: str
    colour: str
    found: tuple[Interval, ...]
    told: tuple[bool, ...]


@dataclass(frozen=True)
class ImageRow:
    """One image by itself in all runs."""

    name: str
    iou: tuple[float, ...]
    range: float


def render(comparison: Comparison) -> str:
    """Return the page; the same comparison gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("terrazzo.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters(), signed=_signed, duration=_duration, score4=_four_decimals)
    script = _text("report.js") + _text("compare.js")
    summary = comparison.competitors[0].scored.summary
    first = comparison.intervals.runs[0]
    runs = range(len(comparison.competitors))
    definition = summary["definition"]
    return environment.get_template("compare.html").render(
        split=comparison.split,
        label_map=comparison.label_map,
        num_images=len(comparison.images),
        present=int(np.count_nonzero(np.asarray(summary["counts"]).sum(axis=1))),
        pixels_counted=summary["pixels_counted"],
        pixels_ignored=summary["pixels_ignored"],
        definition=f"{definition[0].upper()}{definition[1:]}.",
        level=first.level,
        resamples=first.resamples,
        units=first.units,
        few_units=FEW_UNITS,
        grouped=comparison.groups is not None,
        drawn="images" if comparison.groups is None else "groups of images",
        num_pairs=len(runs) * (len(runs) - 1) // 2,
        runs=[_run(comparison, number) for number in runs],
        pairs=[[_difference(comparison, i, j) for j in runs] for i in runs],
        seeds=comparison.seeds,
        dots={title: _dots(comparison, title, key) for title, key in SCORES.items()},
        class_tables={title: _class_rows(comparison, key) for title, key in SCORES.items()},
        borders=_borders(comparison),
        calibrations=_calibrations(comparison),
        scenes=scene_overviews.encode(
            [run.scored.maps for run in comparison.competitors],
            [run.name for run in comparison.competitors],
            comparison.label_map,
        ),
        curves=_curves(comparison),
        examples=_examples(comparison),
        images=_images(comparison),
        settings=differing_settings(comparison),
        style=Markup(_text("report.css") + _text("compare.css")),  # noqa: S704 - our own
        script=Markup(script),  # noqa: S704 - our own
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _text(name: str) -> str:
    return (resources.files("terrazzo.report") / "templates" / name).read_text(encoding="utf-8")


def _run(comparison: Comparison, number: int) -> RunView:
    run = comparison.competitors[number]
    rates = [e["steps_per_second"] for e in run.record.timing if "steps_per_second" in e]
    counts_KK = run.scored.counts_NKK.sum(axis=0)
    return RunView(
        name=run.name,
        colour=number % len(RUNS) + 1,
        sign=figures.MARKER_SIGNS[figures.MARKERS.index(figures.look(number)[1])],
        intervals=comparison.intervals.runs[number],
        to_first=comparison.intervals.differences[number, 0] if number else None,
        model=run.record.config.model.name,
        backend=run.record.config.backend,
        parameters=run.record.run.get("num_parameters"),
        seconds=run.training_seconds,
        steps_per_second=median(rates) if rates else None,
        memory=run.peak_memory,
        device=run.record.run.get("device"),
        extra=comparison.extra[number],
        calibration=reliability.of_classes(run.scored.extra),
        matrix=cells(counts_KK) if len(counts_KK) <= MAX_MATRIX_CLASSES else None,
    )


def _difference(comparison: Comparison, i: int, j: int) -> Interval | None:
    return None if i == j else comparison.intervals.differences[i, j].scalars["mean_iou"]


def _dots(comparison: Comparison, title: str, key: str) -> str:
    runs = comparison.intervals.runs
    figure = figures.dots(
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
        told = [
            found.differences[number, 0].per_class[key][k].excludes_zero
            for number in range(1, len(found.runs))
        ]
        scores = tuple(run.per_class[key][k] for run in found.runs)
        rows.append(ClassRow(each.name, each.colour, scores, (False, *told)))
    return rows


def _borders(comparison: Comparison) -> dict[str, str] | None:
    """What the section of borders says; None where no run has counted them."""
    if not any(each.boundary for each in comparison.extra):
        return None
    return {"definition": BOUNDARY_DEFINITION}


def _calibrations(comparison: Comparison) -> dict[str, Any] | None:
    """What the section of calibration shows; None where no run has counted probabilities."""
    if not any(each.calibration for each in comparison.extra):
        return None
    definition = CALIBRATION_DEFINITION.replace("_", " ")
    extra = [run.scored.extra for run in comparison.competitors]
    return {
        "definition": f"{definition[0].upper()}{definition[1:]}",
        "fewest": reliability.FEWEST_PIXELS,
        "figures": reliability.figures(extra, comparison.label_map),
    }


def _curves(comparison: Comparison) -> dict[str, str]:
    runs = comparison.competitors
    drawn = {
        "Validation mean IoU": figures.curves(
            "Mean IoU", [_column(run, "validation", "mean_iou") for run in runs]
        ),
        "Training loss": figures.curves(
            "Training loss", [_column(run, "train", "loss") for run in runs]
        ),
    }
    return {
        title: Markup(figure)  # noqa: S704 - drawn from numbers alone
        for title, figure in drawn.items()
        if figure
    }


def _column(run: Competitor, kind: str, key: str) -> tuple[list[int], list[float]]:
    entries = [entry for entry in run.record.log if entry["kind"] == kind]
    values = [math.nan if entry[key] is None else float(entry[key]) for entry in entries]
    return [entry["step"] for entry in entries], values


def _images(comparison: Comparison) -> list[ImageRow]:
    """Lowest mean of all runs first; without those that have no counted pixel."""
    rows = [
        ImageRow(name, tuple(map(float, iou_R)), float(iou_R.max() - iou_R.min()))
        for name, iou_R in zip(comparison.images, comparison.image_iou_NR, strict=True)
        if not np.isnan(iou_R).any()
    ]
    return sorted(rows, key=lambda row: (sum(row.iou), row.name))


def _examples(comparison: Comparison) -> tuple[Layered, ...]:
    """The images that every run has kept, worst first."""
    kept = [{e.name: e for e in run.scored.examples} for run in comparison.competitors]
    known = {
        name: tuple(map(float, iou_R))
        for name, iou_R in zip(comparison.images, comparison.image_iou_NR, strict=True)
    }
    shared = [name for name in kept[0] if all(name in each for each in kept)]
    shared.sort(key=lambda name: (_total(known.get(name, ())), name))
    chosen: list[tuple[list[ExampleFiles], tuple[float, ...]]] = [
        ([each[name] for each in kept], known.get(name, ())) for name in shared[:MAX_EXAMPLES]
    ]
    names = [run.name for run in comparison.competitors]
    return example_layers.encode(chosen, names, comparison.label_map)


def _total(scores: tuple[float, ...]) -> float:
    """For sorting: what is not known comes last."""
    total = sum(scores)
    return math.inf if not scores or math.isnan(total) else total


def _four_decimals(value: float) -> str:
    return "absent" if math.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
