"""``terrazzo evaluate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from terrazzo.cli.options import (
    EnsembleOption,
    PrecisionOption,
    RefineOption,
    SamOption,
    SamPointsOption,
    TtaOption,
    compute_precision,
    image_tiling,
    mask_settings,
    require_ray,
    test_time_augmentation,
)

_SPLITS = ("train", "val", "test")


def evaluate(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run, or an exported folder.")
    ],
    split: Annotated[str, typer.Option(help="train, val, test, or all of them.")] = "test",
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
    runtime: Annotated[
        str | None,
        typer.Option(help="torch or keras (the run's own), openvino or onnxruntime."),
    ] = None,
    precision: PrecisionOption = None,
    tta: TtaOption = None,
    tile: Annotated[
        int | None,
        typer.Option(min=1, help="Images at their own scale, by tiles of so many pixels."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Pixels that two tiles share; a quarter of a tile.")
    ] = None,
    ensemble: EnsembleOption = None,
    refine: RefineOption = None,
    sam: SamOption = None,
    sam_points: SamPointsOption = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Ray cluster whose processes score together."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of the cluster; one for each GPU by default."),
    ] = None,
) -> None:
    """Score the model of a run on one split, of its own data or of others.

    \b
    Examples:
        terrazzo evaluate runs/demo_torch
        terrazzo evaluate runs/demo_torch --split val
        terrazzo evaluate runs/demo_torch --split all
        terrazzo evaluate runs/a_gta --data recipes/systems/a_city.toml
        terrazzo evaluate runs/demo_torch --calibration --boundary
        terrazzo evaluate runs/demo_torch --runtime openvino
        terrazzo evaluate runs/demo_torch --tta flips
        terrazzo evaluate runs/demo_torch --tile 512
        terrazzo evaluate runs/seed0 --ensemble runs/seed1 --ensemble runs/seed2
        terrazzo evaluate runs/demo_torch --refine sam --sam models/sam
        terrazzo evaluate exported/demo --data runs/demo_torch/config.toml
    """
    from terrazzo.base import progress
    from terrazzo.base.processes import speaks
    from terrazzo.cli.score_table import print_scores
    from terrazzo.workflows import evaluate as workflow
    from terrazzo.workflows.on_ray import evaluate_on_ray

    require_ray(ray, workers)
    start = workflow.evaluate
    chosen: dict[str, Any] = {
        "runtime": runtime,
        "precision": compute_precision(precision),
        "augmentation": test_time_augmentation(tta),
        "tiling": image_tiling(tile, overlap),
        "ensemble": tuple(ensemble or ()),
        "masks": mask_settings(refine, sam, sam_points),
    }
    if ray is not None:
        start = partial(evaluate_on_ray, address=ray, workers=workers)
    for each in _SPLITS if split == "all" else (split,):
        with progress.shown(f"evaluate {each}") as shown:
            finished = start(
                run_folder,
                each,
                data=data,
                calibration=calibration,
                boundary=boundary,
                any_pixel_size=any_pixel_size,
                **chosen,
                progress=shown,
            )
        if speaks():
            print_scores(finished)
