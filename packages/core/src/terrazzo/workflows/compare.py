"""Write a comparison: its page, and its tables and figures as files."""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.atomic_write import make_folder, replace_text
from terrazzo.comparison import table_files
from terrazzo.comparison import tables as table_contents
from terrazzo.comparison.compare import Comparison
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
    """Write the page, and the tables and figures that are asked for; return their paths.

    Args:
        comparison: the comparison to write.
        page: HTML file.
        csv: file for all scores and differences.
        latex: file for the ranking.
        tables: folder for all tables, see `comparison.table_files`.
        figures: folder for all figures, see `report.comparison_figure_files`.

    Raises:
        ResourceError: SEG-R004 the disk is full or refuses.
    """
    for path in (page, csv, latex):
        if path is not None:
            make_folder(path.parent)
    write_comparison(comparison, page)
    written = [page]
    if csv is not None:
        replace_text(csv, table_files.as_csv(table_contents.scores(comparison)))
        written.append(csv)
    if latex is not None:
        ranking = table_contents.ranking_with_differences(comparison)
        replace_text(latex, table_files.as_latex(ranking))
        written.append(latex)
    if tables is not None:
        written += table_files.write_tables(comparison, tables)
    if figures is not None:
        from terrazzo.report import comparison_figure_files  # matplotlib

        written += comparison_figure_files.write(comparison, figures)
    return written
