"""The tables of a comparison as files: CSV, and LaTeX for the package booktabs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from terrazzo.base import printable
from terrazzo.base.csv_names import csv_text as csv_text
from terrazzo.base.csv_names import name_from_csv as name_from_csv
from terrazzo.comparison import tables, verdicts
from terrazzo.comparison.compare import Comparison
from terrazzo.comparison.tables import Column, Entry, Table
from terrazzo.metrics.confidence_intervals import Interval

_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\u2009": r"\,",
        "†": r"\textsuperscript{\dag}",
    }
)


def all_tables(comparison: Comparison) -> dict[str, str]:
    """Return the texts of all tables by the names of their files."""
    files = {
        "scores.csv": as_csv(tables.scores(comparison)),  # too long for a page
        "ranking.csv": as_csv(tables.ranking(comparison)),
        # With the differences to the first run, which a paper has no second table for.
        "ranking.tex": as_latex(tables.ranking_with_differences(comparison)),
    }
    of_methods = tables.method_scores(comparison)
    if of_methods is not None:
        files["method_scores.csv"] = as_csv(of_methods)
    for table in _tables_in_both_formats(comparison):
        files |= {f"{table.name}.csv": as_csv(table), f"{table.name}.tex": as_latex(table)}
    return dict(sorted(files.items()))


def _tables_in_both_formats(comparison: Comparison) -> Iterator[Table]:
    yield tables.differences(comparison)
    of_methods = tables.methods(comparison)
    if of_methods is not None:
        yield of_methods
    for key in tables.CLASS_SCORES:
        yield tables.class_scores(comparison, key)
    yield tables.cost(comparison)
    settings = tables.settings(comparison)
    if settings.rows:
        yield settings
    yield from tables.confusion_matrices(comparison)


def as_csv(table: Table) -> str:
    """Return the table as CSV, with three columns for an interval: estimate, low and high.

    What is not defined or not known is an empty field. Names go through `csv_text`.
    """
    has_intervals = [
        any(isinstance(row[number], Interval) for row in table.rows)
        for number in range(len(table.columns))
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    headings = map(_csv_headings, table.columns, has_intervals)
    writer.writerow([heading for group in headings for heading in group])
    for row in table.rows:
        fields = map(_csv_fields, row, has_intervals)
        writer.writerow([field for group in fields for field in group])
    return buffer.getvalue()


def _csv_headings(column: Column, has_intervals: bool) -> tuple[str, ...]:
    if not has_intervals:
        return (csv_text(column.title),)
    bounds = column.bounds or (f"{column.title} low", f"{column.title} high")
    return tuple(map(csv_text, (column.title, *bounds)))


def _csv_fields(entry: Entry, has_intervals: bool) -> list[str]:
    if isinstance(entry, Interval):
        values = (entry.estimate, entry.low, entry.high)
        return ["" if math.isnan(value) else f"{value:.6f}" for value in values]
    text = csv_text(entry) if isinstance(entry, str) else "" if entry is None else str(entry)
    return [text, "", ""] if has_intervals else [text]


def as_latex(table: Table) -> str:
    """Return the table as a LaTeX environment with its caption."""
    alignment = "l" + "r" * (len(table.columns) - 1)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escape(table.caption)}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _latex_row([_escape(column.title) for column in table.columns]),
        r"\midrule",
    ]
    for number, row in enumerate(table.rows, start=1):
        if table.ends_in_mean and number == len(table.rows):
            lines.append(r"\midrule")
        lines.append(_latex_row(list(map(_latex_cell, row, table.columns))))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    # A bracket or a star after the end of a row, or after a rule, would be an argument of it.
    first = "{}" if cells[0].startswith(("[", "*")) else ""
    return first + " & ".join(cells) + r" \\"


def _latex_cell(entry: Entry, column: Column) -> str:
    match entry:
        case Interval():
            mark = column.mark if entry.excludes_zero else ""
            return _latex_interval(entry, signed=column.signed) + _escape(mark)
        case None:
            return "--"
        case int():
            return f"{entry:,}".replace(",", r"\,")
        case float():
            return f"{entry:.3g}"
        case _:
            return _escape(entry)


def _latex_interval(interval: Interval, *, signed: bool) -> str:
    if math.isnan(interval.estimate):
        return "--"
    sign = "+" if signed else ""
    values = (interval.estimate, interval.low, interval.high)
    estimate, low, high = (f"{value:{sign}.3f}" for value in values)
    if interval.too_few:
        return f"${estimate}$ ({verdicts.too_few(interval)})"
    return f"${estimate}$ [${low}$, ${high}$]"


def _escape(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return printable.one_line(text).translate(_LATEX)
