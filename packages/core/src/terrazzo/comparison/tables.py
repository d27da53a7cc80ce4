"""The tables of a comparison as files for papers: each as CSV, and as LaTeX with booktabs."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from terrazzo.base.atomic_write import replace_text
from terrazzo.comparison.compare import Comparison, differing_settings
from terrazzo.comparison.export import as_csv, as_latex, escape, latex_interval
from terrazzo.metrics.confidence_intervals import Interval

PER_CLASS = {"iou": "IoU", "precision": "Precision", "recall": "Recall", "f1": "F1"}
MEANS = {
    "mean IoU": "mean_iou",
    "mean precision": "mean_precision",
    "mean recall": "mean_recall",
    "mean F1": "mean_f1",
    "pixel accuracy": "pixel_accuracy",
    "pooled IoU": "micro_iou",
}
_STAR = "* The interval excludes zero (not corrected for the number of pairs)."
Entry = Interval | str | float | int | None
"""Of a cell; None is not known."""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of its files, without suffix.
        caption: plain text.
        head: of its columns.
        rows: as long as the head.
        signed: whether intervals are differences, which get a sign and a star.
        ends_in_mean: whether the last row sums up the others.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    signed: bool = False
    ends_in_mean: bool = False


def write_tables(comparison: Comparison, folder: Path) -> list[Path]:
    """Write all tables into a folder, which is made; return the paths.

    Raises:
        ResourceError: SEG-R004 the disk is full or refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"scores.csv": as_csv(comparison), "ranking.tex": as_latex(comparison)}
    for table in tables(comparison):
        files[f"{table.name}.csv"] = _csv(table)
        files.setdefault(f"{table.name}.tex", _latex(table))
    written = []
    for name, text in sorted(files.items()):
        replace_text(folder / name, text)
        written.append(folder / name)
    return written


def file_names(comparison: Comparison) -> list[str]:
    """Return names of the runs that may be part of a file's name; they differ."""
    names = [re.sub(r"[^\w.-]+", "_", run.name) for run in comparison.competitors]
    return [
        name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)
    ]


def tables(comparison: Comparison) -> Iterator[Table]:
    """Make the tables one after the other, as the page has them."""
    names = tuple(run.name for run in comparison.competitors)
    runs = comparison.intervals.runs
    yield Table(
        "ranking",
        f"Scores {_where(comparison)}",
        ("run", *MEANS),
        tuple(
            (name, *(run.scalars[mean] for mean in MEANS.values()))
            for name, run in zip(names, runs, strict=True)
        ),
    )
    yield _pairs(comparison, names)
    for key, title in PER_CLASS.items():
        rows: list[tuple[Entry, ...]] = [
            (name, *(run.per_class[key][k] for run in runs))
            for k, name in enumerate(comparison.label_map.names)
        ]
        rows.append(("Mean", *(run.scalars[f"mean_{key}"] for run in runs)))
        yield Table(
            key,
            f"{title} of each class {_where(comparison)}",
            ("class", *names),
            tuple(rows),
            ends_in_mean=True,
        )
    yield _cost(comparison)
    settings = differing_settings(comparison)
    if settings:
        rows_of_text = tuple((key, *values) for key, values in settings.items())
        yield Table("settings", "Settings that differ.", ("setting", *names), rows_of_text)
    classes = comparison.label_map.names
    for file_name, run in zip(file_names(comparison), comparison.competitors, strict=True):
        counts_KK = run.scored.counts_NKK.sum(axis=0)
        yield Table(
            f"confusion_{file_name}",
            f"Pixels of {run.name}: rows truth, columns prediction.",
            ("class", *classes),
            tuple((name, *map(int, row)) for name, row in zip(classes, counts_KK, strict=True)),
        )


def _pairs(comparison: Comparison, names: tuple[str, ...]) -> Table:
    differences = comparison.intervals.differences
    rows = []
    for i, name in enumerate(names):
        row = [differences[i, j].scalars["mean_iou"] if i != j else "" for j in range(len(names))]
        rows.append((name, *row))
    caption = "Mean IoU of the run in the row minus that of the run in the column,"
    return Table(
        "pairs",
        f"{caption} {_where(comparison)} {_STAR}",
        ("run", *names),
        tuple(rows),
        signed=True,
    )


def _where(comparison: Comparison) -> str:
    found = comparison.intervals.runs[0]
    drawn = "images" if comparison.groups is None else "groups of images"
    return (
        f"on {len(comparison.images)} {comparison.split} images, with "
        f"{100 * found.level:g} % bootstrap intervals over {found.units} {drawn}."
    )


def _cost(comparison: Comparison) -> Table:
    rows = []
    for run in comparison.competitors:
        rates = [e["steps_per_second"] for e in run.record.timing if "steps_per_second" in e]
        rows.append(
            (
                run.name,
                run.record.config.model.name,
                run.record.config.backend,
                run.record.run.get("num_parameters"),
                run.training_seconds,
                median(rates) if rates else None,
                run.record.run.get("device"),
            )
        )
    head = ("run", "model", "backend", "parameters", "seconds", "steps a second", "device")
    return Table("cost", "Size and time of training.", head, tuple(rows))


def _csv(table: Table) -> str:
    """Return the table with three columns for an interval: itself, low and high."""
    wide = [
        any(isinstance(row[column], Interval) for row in table.rows)
        for column in range(len(table.head))
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = [
        [title, f"{title} low", f"{title} high"] if is_wide else [title]
        for title, is_wide in zip(table.head, wide, strict=True)
    ]
    writer.writerow([title for titles in head for title in titles])
    for row in table.rows:
        cells = [_fields(entry, is_wide) for entry, is_wide in zip(row, wide, strict=True)]
        writer.writerow([field for fields in cells for field in fields])
    return buffer.getvalue()


def _fields(entry: Entry, is_wide: bool) -> list[str]:
    if isinstance(entry, Interval):
        values = (entry.estimate, entry.low, entry.high)
        return ["" if math.isnan(value) else f"{value:.6f}" for value in values]
    text = "" if entry is None else str(entry)
    return [text, "", ""] if is_wide else [text]


def _latex(table: Table) -> str:
    columns = "l" + "r" * (len(table.head) - 1)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.caption)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row([escape(title) for title in table.head]),
        r"\midrule",
    ]
    for number, row in enumerate(table.rows, start=1):
        if table.ends_in_mean and number == len(table.rows):
            lines.append(r"\midrule")
        lines.append(_row([_cell(entry, signed=table.signed) for entry in row]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(entry: Entry, *, signed: bool) -> str:
    match entry:
        case Interval():
            star = "*" if signed and entry.excludes_zero else ""
            return latex_interval(entry, signed=signed) + star
        case None:
            return "--"
        case int():
            return f"{entry:,}".replace(",", r"\,")
        case float():
            return f"{entry:.3g}"
        case _:
            return escape(entry)
