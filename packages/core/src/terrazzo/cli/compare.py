"""``terrazzo compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("compare.html"),
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Images whose names agree in this are resampled together."
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="All scores as CSV.")] = None,
    latex: Annotated[Path | None, typer.Option(metavar="FILE", help="A LaTeX table.")] = None,
    tables: Annotated[
        Path | None, typer.Option(metavar="DIR", help="All tables as CSV and LaTeX.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="All figures as PNG and SVG.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
) -> None:
    """Rank runs that were scored on the same images, with intervals; write one page.

    \b
    Examples:
        terrazzo compare runs/camvid_torch runs/camvid_keras --out compare.html
        terrazzo compare runs/* --group '^[^_]+' --csv scores.csv --latex scores.tex
        terrazzo compare runs/a runs/b --tables paper --figures paper
    """
    from terrazzo.base import printable
    from terrazzo.base.console import PlainConsole
    from terrazzo.base.output_paths import refuse_existing
    from terrazzo.comparison import compare as comparing
    from terrazzo.workflows import ranking_table
    from terrazzo.workflows.compare import write_comparison_files

    if not overwrite:  # before any work; tables and figures are looked at once they are named
        refuse_existing(path for path in (out, csv, latex) if path is not None)
    comparison = comparing.compare(run_folders, split=split, group=group)
    written = write_comparison_files(
        comparison,
        out,
        csv=csv,
        latex=latex,
        tables=tables,
        figures=figures,
        overwrite=overwrite,
    )
    ranking_table.show(PlainConsole(), comparison, f"{len(comparison.competitors)} runs")
    for path in written:
        print(printable.one_line(str(path)))
