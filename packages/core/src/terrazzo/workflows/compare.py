"""Write a comparison: its page, and its tables and figures as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from terrazzo.base.atomic_write import make_folder, replace_bytes, replace_text
from terrazzo.base.output_paths import refuse_existing, refuse_inputs
from terrazzo.comparison import table_files
from terrazzo.comparison import tables as table_contents
from terrazzo.comparison.compare import Comparison
from terrazzo.comparison.tables import Table
from terrazzo.report import comparison_page


def write_comparison_files(
    comparison: Comparison,
    page: Path,
    *,
    csv: Path | None = None,
    latex: Path | None = None,
    tables: Path | None = None,
    figures: Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the page, and the tables and figures that are asked for; return their paths.

    Args:
        comparison: the comparison to write.
        page: HTML file.
        csv: file for all scores and differences; those of methods, where some have seeds enough,
            lie beside it in ``NAME_methods.csv``.
        latex: file for the ranking, and that of methods.
        tables: folder for all tables, see `comparison.table_files`.
        figures: folder for all figures, see `report.comparison_figure_files`.
        overwrite: replace what is there; files of the runs are never replaced.

    Raises:
        ConfigError: SEG-X032, a file would replace one of a run or another one of these.
        CheckpointError: SEG-C002, a file exists and `overwrite` is off.
        ResourceError: SEG-R004 the disk is full or refuses.
    """
    contents = list(_contents(comparison, page, csv, latex, tables, figures))
    paths = [path for path, _ in contents]
    refuse_inputs(paths, [file for run in comparison.competitors for file in run.folder.files])
    if not overwrite:
        refuse_existing(paths)
    write_files(contents)
    return paths


def write_files(contents: Iterable[tuple[Path, str | bytes]]) -> None:
    """Write files, and the folders they lie in; each complete or not at all.

    Raises:
        ResourceError: SEG-R004 the disk is full or refuses.
    """
    for path, content in contents:
        make_folder(path.parent)
        if isinstance(content, str):
            replace_text(path, content)
        else:
            replace_bytes(path, content)


def _csv_bytes(table: Table) -> bytes:
    return table_files.as_csv(table).encode("utf-8", "backslashreplace")


def _contents(
    comparison: Comparison,
    page: Path,
    csv: Path | None,
    latex: Path | None,
    tables: Path | None,
    figures: Path | None,
) -> Iterator[tuple[Path, str | bytes]]:
    """Yield every file with what will be in it; nothing is written yet."""
    yield page, comparison_page(comparison)
    if csv is not None:
        yield csv, _csv_bytes(table_contents.scores(comparison))
        if (of_methods := table_contents.method_scores(comparison)) is not None:
            yield csv.with_name(f"{csv.stem}_methods{csv.suffix}"), _csv_bytes(of_methods)
    if latex is not None:
        of_runs = table_contents.ranking_with_differences(comparison)
        ranked = (of_runs, table_contents.methods(comparison))
        yield latex, "\n".join(table_files.as_latex(each) for each in ranked if each is not None)
    if tables is not None:
        for name, text in table_files.all_tables(comparison).items():
            yield tables / name, text
    if figures is not None:
        from terrazzo.report import comparison_figure_files  # matplotlib

        for name, content in comparison_figure_files.all_figures(comparison).items():
            yield figures / name, content
