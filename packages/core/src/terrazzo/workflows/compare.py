"""`terrazzo compare`: the page of a comparison, and its tables and figures as files."""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.atomic_write import replace_text
from terrazzo.comparison.compare import Comparison
from terrazzo.comparison.export import as_csv, as_latex
from terrazzo.report import write_comparison


def write_comparison_files(
    comparison: Comparison,
    page: Path,
    *,
    csv: Path | None = None,
    latex: Path | None = None,
    tables: Path | None = None,
    figures: Path | None = None,
) -> list[Path]:
    """Write the page, the tables and the figures that are asked for; return their paths.

    Args:
        comparison: what is written.
        page: HTML file.
        csv: file of all scores.
        latex: file of the ranking.
        tables: folder for all tables, see `comparison.tables`.
        figures: folder for all figures, see `report.comparison_figure_files`.

    Raises:
        ResourceError: SEG-R004 the disk is full or refuses.
    """
    write_comparison(comparison, page)
    written = [page]
    for path, text in ((csv, as_csv), (latex, as_latex)):
        if path is not None:
            replace_text(path, text(comparison))
            written.append(path)
    if tables is not None:
        from terrazzo.comparison.tables import write_tables

        written += write_tables(comparison, tables)
    if figures is not None:
        from terrazzo.report import comparison_figure_files

        written += comparison_figure_files.write(comparison, figures)
    return written
