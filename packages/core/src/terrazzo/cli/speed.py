"""``terrazzo speed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def speed(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="ROWS COLUMNS", help="Of the images; by default those of training."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images a call.")] = 1,
    repeats: Annotated[int, typer.Option(help="Calls that count.")] = 20,
    runtime: Annotated[
        str, typer.Option(help="framework, or another as in `terrazzo predict`.")
    ] = "framework",
) -> None:
    """Time a trained model on this machine and count its work; `compare` shows it beside the score.

    \b
    Examples:
        terrazzo speed runs/camvid_unet_quick
        terrazzo speed runs/camvid_unet_quick --size 512 512 --runtime openvino
    """
    from terrazzo.workflows import speed as workflow

    found = workflow.measure(
        run_folder, size=size, batch_size=batch_size, repeats=repeats, runtime=runtime
    )
    of_images = f"{found.rows}×{found.columns}"
    if found.batch_size > 1:
        of_images = f"{found.batch_size} × {of_images}"
    print(
        f"{found.milliseconds:.1f} ms for {of_images} (median of {found.repeats}, "
        f"{found.fastest:.1f} to {found.slowest:.1f}), {found.device}, {found.threads} threads"
    )
    if found.multiply_adds is not None:
        print(f"{found.multiply_adds / 1e9:.2f} thousand million multiply-adds an image")
    if found.parameters is not None:
        print(f"{found.parameters:,} parameters")
    if found.peak_memory_bytes is not None:
        print(f"{found.peak_memory_bytes / 1e6:,.0f} MB at most, framework included")
