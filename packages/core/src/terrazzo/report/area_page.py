"""The page of an assessment of a map by reference points, and its tables as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from terrazzo.base.csv_names import csv_text
from terrazzo.evaluation.map_assessment import METHODS, QUESTIONS, Assessment
from terrazzo.metrics.area_estimation import Estimate
from terrazzo.report import page_assets
from terrazzo.report.confusion_matrix import MAX_MATRIX_CLASSES

_ESTIMATE = ("value", "standard_error", "low", "high")


def render(found: Assessment) -> str:
    """Return the page of an assessment; the same assessment gives the same text."""
    total = math.fsum(each.estimated.value for each in found.classes)
    values = {
        "found": found,
        "name": found.map.name,
        "source_name": found.source.name,
        "question": QUESTIONS[found.method],
        "method": METHODS[found.method],
        "total": total,
        "matrix_shown": len(found.classes) <= MAX_MATRIX_CLASSES,
        "without_error": [each.name for each in found.classes if each.users.standard_error == 0],
    }
    return page_assets.render("assess.html", values, styles=("page.css",), scripts=("page.js",))


def accuracy_csv(found: Assessment) -> str:
    """Return all estimates, one a row; what is not defined is an empty field."""
    head = ("quantity", "class_id", "class_name", *_ESTIMATE, "unit")
    rows: list[Sequence[object]] = [
        ("overall_accuracy", "", "", *_numbers(found.estimates.overall), "share")
    ]
    for each in found.classes:
        named = (each.id, csv_text(each.name))
        rows += [
            ("mapped_area", *named, _number(each.mapped), "", "", "", found.unit),
            ("area", *named, *_numbers(each.estimated), found.unit),
            ("users_accuracy", *named, *_numbers(each.users), "share"),
            ("producers_accuracy", *named, *_numbers(each.producers), "share"),
        ]
    return _csv_of(head, rows)


def matrix_csv(found: Assessment) -> str:
    """Return the error matrix, one cell a row: points, and share of the area."""
    head = ("map_class", "reference_class", "points", "area_share")
    names = [csv_text(each.name) for each in found.classes]
    estimates = found.estimates
    cells = (
        (
            names[i],
            names[j],
            int(estimates.counts_KK[i, j]),
            _number(estimates.proportions_KK[i, j]),
        )
        for i in range(len(names))
        for j in range(len(names))
    )
    return _csv_of(head, cells)


def _csv_of(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(head)
    lines.writerows(rows)
    return text.getvalue()


def _numbers(each: Estimate) -> tuple[str, ...]:
    return tuple(map(_number, (each.value, each.standard_error, each.low, each.high)))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.8g}"
