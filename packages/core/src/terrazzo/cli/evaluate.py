"""``terrazzo evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Other data: a recipe, or a TOML with [data] alone."),
    ] = None,
    calibration: Annotated[
        bool | None,
        typer.Option(help="Reliability, Brier, ROC areas; by default as the recipe says."),
    ] = None,
    boundary: Annotated[
        bool | None, typer.Option(help="Boundary and trimap IoU; by default as the recipe says.")
    ] = None,
    any_pixel_size: Annotated[
        bool, typer.Option("--any-pixel-size", help="Take pixels of another size than trained on.")
    ] = False,
) -> None:
    """Score the model of a run on one split, of its own data or of others.

    \b
    Examples:
        terrazzo evaluate runs/demo_torch
        terrazzo evaluate runs/demo_torch --split val
        terrazzo evaluate runs/a_gta --data recipes/systems/a_city.toml
        terrazzo evaluate runs/demo_torch --calibration --boundary
    """
    from terrazzo.base import progress
    from terrazzo.base.processes import speaks
    from terrazzo.cli.score_table import print_scores
    from terrazzo.workflows import evaluate as workflow

    with progress.shown(f"evaluate {split}") as shown:
        finished = workflow.evaluate(
            run_folder,
            split,
            data=data,
            calibration=calibration,
            boundary=boundary,
            any_pixel_size=any_pixel_size,
            progress=shown,
        )
    if speaks():
        print_scores(finished)
