"""``terrazzo export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    to: Annotated[
        str, typer.Option(help="onnx, openvino, litert, torch, keras or huggingface.")
    ] = "onnx",
    precision: Annotated[str, typer.Option(help="float32, float16 or int8.")] = "float32",
    layout: Annotated[
        str, typer.Option(help="Of the input: NHWC as images are, or NCHW.")
    ] = "NHWC",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="exported/RUN_FORMAT or so by default.")
    ] = None,
    score: Annotated[
        bool, typer.Option(help="Score val with the run and with the exported model.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an exported folder in DIR.")
    ] = False,
) -> None:
    """Write a trained model for another runtime, and verify there that it gives the same.

    \b
    Examples:
        terrazzo export runs/demo_torch --to onnx
        terrazzo export runs/demo_torch --to openvino --precision int8
        terrazzo predict exported/demo_torch_onnx scene.tif --out map.tif
    """
    from terrazzo.base import printable, progress
    from terrazzo.workflows.export import export as workflow

    words = [run_folder.absolute().name, to, *([] if precision == "float32" else [precision])]
    place = Path("exported") / "_".join(words) if out is None else out
    with progress.shown("export") as shown:
        workflow.export(
            run_folder,
            to,
            place,
            precision=precision,  # type: ignore[arg-type]  # refused there, with the choices
            layout=layout,  # type: ignore[arg-type]
            score=score,
            overwrite=overwrite,
            progress=shown,
        )
    print(printable.one_line(str(place)))
