"""From the record of a run to the HTML page: what is worked out, rounded and put in order."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import median
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from terrazzo.evaluation.stored import Record, Scored
from terrazzo.metrics import ConfusionMatrix
from terrazzo.report import curves, example_images, reliability, scene_overviews
from terrazzo.report.example_images import Shown
from terrazzo.report.reliability import Reliability
from terrazzo.report.scene_overviews import OverviewView

MAX_MATRIX_CLASSES = 60
"""More classes than these make a matrix that no one can read, and a page that is slow."""
MAX_EXAMPLES = 12
NUM_WORST = 10
NUM_CONFUSIONS = 5


@dataclass(frozen=True)
class ClassRow:
    """One class in the table; None is a score that is not defined."""

    name: str
    colour: str
    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    pixels: int
    share: float


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix; `share` of its row, None where the row is empty."""

    count: int
    share: float | None


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were taken for another."""

    truth: str
    prediction: str
    count: int
    share: float


@dataclass(frozen=True)
class Image:
    """Scores of one image by itself; NaN where it has no counted pixel."""

    name: str
    mean_iou: float
    pixel_accuracy: float
    counted: int
    ignored: int


@dataclass(frozen=True)
class ExampleRow:
    """One row of the gallery, with the scores of its image where they are known."""

    shown: Shown
    scores: Image | None


@dataclass(frozen=True)
class SplitView:
    """One evaluation as the page shows it."""

    name: str
    summary: dict[str, Any]
    classes: list[ClassRow]
    matrix: list[list[Cell]] | None
    confusions: list[Confusion]
    images: list[Image]
    median_iou: float
    examples: list[ExampleRow]
    examples_left_out: int
    borders: dict[str, Any] | None
    calibration: dict[str, Any] | None
    reliability: tuple[Reliability, ...]
    maps: tuple[OverviewView, ...]


@dataclass(frozen=True)
class Curves:
    """The three figures, empty where the log has nothing for them."""

    loss: str
    binned: bool
    validation: str
    learning_rate: str
    validations: list[dict[str, Any]]


def render(record: Record) -> str:
    """Return the page of a run; the same record gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("terrazzo.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters())
    folder = resources.files("terrazzo.report") / "templates"
    script = (folder / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("run.html").render(
        record=record,
        run=record.run,
        config=record.config,
        curves=_curves(record.log),
        stopped=[entry for entry in record.log if entry["kind"] == "stopped"][-1:],
        steps_per_second=_median_of(record.timing, "steps_per_second"),
        seconds_to_first_step=_median_of(record.timing, "seconds_to_first_step"),
        peak_memory=max((e.get("peak_memory_bytes", 0) for e in record.timing), default=0),
        splits=_splits(record),
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own
        script=Markup(script),  # noqa: S704 - our own
        script_digest=digest,
    )


def filters() -> dict[str, Callable[..., str]]:
    """Return the formats that the templates use."""
    return {
        "score": _score,
        "count": _count,
        "percent": _percent,
        "whole_percent": _whole_percent,
        "gigabytes": _gigabytes,
        "coordinate": _coordinate,
    }


def _median_of(entries: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [entry[key] for entry in entries if key in entry]
    return median(values) if values else None


def _curves(log: Sequence[dict[str, Any]]) -> Curves:
    training = [entry for entry in log if entry["kind"] == "train"]
    validations = [entry for entry in log if entry["kind"] == "validation"]
    steps = [entry["step"] for entry in training]
    return Curves(
        loss=_svg(curves.loss(steps, _column(training, "loss"))) if training else "",
        binned=len(training) > curves.MAX_POINTS,
        validation=_svg(_draw_validation(validations)) if validations else "",
        learning_rate=_svg(curves.learning_rate(steps, _column(training, "learning_rate")))
        if training
        else "",
        validations=validations,
    )


def _draw_validation(validations: Sequence[dict[str, Any]]) -> str:
    kept = [position for position, entry in enumerate(validations) if entry["best"]]
    return curves.validation(
        [entry["step"] for entry in validations],
        _column(validations, "mean_iou"),
        _column(validations, "pixel_accuracy"),
        kept[-1] if kept else None,
    )


def _column(entries: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [math.nan if entry[key] is None else float(entry[key]) for entry in entries]


def _svg(text: str) -> str:
    return Markup(text)  # noqa: S704 - drawn from numbers alone


def _splits(record: Record) -> list[SplitView]:
    """The views of all evaluations, whose galleries share one budget."""
    chosen = [_choose_examples(scored) for scored in record.scored]
    files = [example for examples in chosen for example, _ in examples]
    shown = iter(example_images.encode(files, record.label_map))
    return [
        _split(record, scored, [ExampleRow(next(shown), scores) for _, scores in examples])
        for scored, examples in zip(record.scored, chosen, strict=True)
    ]


def _split(record: Record, scored: Scored, examples: list[ExampleRow]) -> SplitView:
    counts_KK = np.asarray(scored.summary["counts"], dtype=np.int64)
    names = scored.summary["classes"]
    images = _images(scored)
    return SplitView(
        name=scored.summary["split"],
        summary=scored.summary,
        classes=_class_rows(scored.summary, counts_KK, record),
        matrix=cells(counts_KK) if len(names) <= MAX_MATRIX_CLASSES else None,
        confusions=_confusions(names, counts_KK),
        images=images[:NUM_WORST],
        median_iou=median(image.mean_iou for image in images) if images else math.nan,
        examples=examples,
        examples_left_out=len(scored.examples) - len(examples),
        borders=scored.summary.get("boundary"),
        calibration=scored.summary.get("calibration"),
        reliability=reliability.figures(
            [scored.extra], record.label_map, prefix=f"{scored.summary['split']}-"
        ),
        maps=scene_overviews.encode([scored.maps], [""], record.label_map),
    )


def _class_rows(
    summary: dict[str, Any], counts_KK: NDArray[np.int64], record: Record
) -> list[ClassRow]:
    pixels_K = counts_KK.sum(axis=1)
    total = max(int(pixels_K.sum()), 1)
    colours = {c.name: c.colour for c in record.label_map.classes}
    scores = summary["per_class"]
    return [
        ClassRow(
            name=name,
            colour=colours[name],
            iou=scores["iou"][k],
            precision=scores["precision"][k],
            recall=scores["recall"][k],
            f1=scores["f1"][k],
            pixels=int(pixels_K[k]),
            share=int(pixels_K[k]) / total,
        )
        for k, name in enumerate(summary["classes"])
    ]


def cells(counts_KK: NDArray[np.int64]) -> list[list[Cell]]:
    """Return the cells of a confusion matrix, each with its share of the row."""
    totals = counts_KK.sum(axis=1)
    return [
        [Cell(int(n), int(n) / int(total) if total else None) for n in row]
        for row, total in zip(counts_KK, totals, strict=True)
    ]


def _confusions(names: Sequence[str], counts_KK: NDArray[np.int64]) -> list[Confusion]:
    """The largest cells off the diagonal, most pixels first."""
    wrong_KK = counts_KK - np.diag(np.diag(counts_KK))
    largest = np.argsort(-wrong_KK, axis=None, kind="stable")[:NUM_CONFUSIONS]
    cells = [divmod(int(position), len(names)) for position in largest]
    return [
        Confusion(names[i], names[j], int(wrong_KK[i, j]), wrong_KK[i, j] / counts_KK[i].sum())
        for i, j in cells
        if wrong_KK[i, j] > 0
    ]


def _images(scored: Scored) -> list[Image]:
    """The images with at least one counted pixel, worst first."""
    images = []
    for name, counts_KK, ignored in zip(
        scored.names, scored.counts_NKK, scored.ignored_N, strict=True
    ):
        scores = ConfusionMatrix.from_counts(counts_KK).scores()
        if not math.isnan(scores.mean_iou):
            images.append(
                Image(
                    name,
                    float(scores.mean_iou),
                    float(scores.pixel_accuracy),
                    int(counts_KK.sum()),
                    int(ignored),
                )
            )
    return sorted(images, key=lambda image: (image.mean_iou, image.name))


def _choose_examples(scored: Scored) -> list[tuple[Any, Image | None]]:
    """The examples to show, worst first; those without scores of their own come last."""
    by_name = {image.name: image for image in _images(scored)}
    pairs = [(example, by_name.get(example.name)) for example in scored.examples]
    return sorted(pairs, key=lambda pair: 2.0 if pair[1] is None else pair[1].mean_iou)[
        :MAX_EXAMPLES
    ]


def _score(value: float | None) -> str:
    """A score with three decimals; what is not defined is said to be absent, never 0."""
    return "absent" if value is None or math.isnan(value) else f"{value:.3f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(share: float) -> str:
    """A share in per cent, never rounded to 0 or 100 that it is not."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def _whole_percent(share: float) -> str:
    """The same without decimals, for a narrow cell."""
    if 0 < share < 0.005:
        return "<1"
    if 0.995 < share < 1:
        return ">99"
    return f"{100 * share:.0f}"


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def _coordinate(value: float) -> str:
    """Degrees to about a decimetre, metres to a centimetre; no zeros that say nothing."""
    decimals = 6 if abs(value) < 1000 else 2
    text = f"{value:,.{decimals}f}".rstrip("0").rstrip(".")
    return text.replace("-", "−")
