"""``terrazzo export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    to: Annotated[
        str | None,
        typer.Option(help="onnx (default), openvino, litert, torch, keras or huggingface."),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option("--for", help="A program: arcgis, bioimageio, deepness, mlflow or triton."),
    ] = None,
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
    tile_size: Annotated[
        int | None, typer.Option(metavar="N", help="Tiles of --for deepness and arcgis; else 512.")
    ] = None,
    cm_per_pixel: Annotated[
        float | None, typer.Option(help="For deepness, where the training's images do not tell.")
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(help="For bioimageio; may be given several times.")
    ] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", help="For bioimageio: of SPDX, such as CC-BY-4.0.")
    ] = None,
    cite: Annotated[
        str | None, typer.Option(help="For bioimageio: the work to cite, in words.")
    ] = None,
    doi: Annotated[
        str | None, typer.Option(help="For bioimageio: DOI or address of that work.")
    ] = None,
) -> None:
    """Write a trained model for another runtime or program, and verify that it gives the same.

    \b
    Examples:
        terrazzo export runs/demo_torch --to onnx
        terrazzo export runs/demo_torch --to openvino --precision int8
        terrazzo export runs/landsat --for deepness --tile-size 512
        terrazzo predict exported/demo_torch_onnx scene.tif --out map.tif
    """
    from terrazzo.base import printable, progress
    from terrazzo.export_clients import ClientOptions
    from terrazzo.workflows.export import export as workflow
    from terrazzo.workflows.export import for_client

    options = ClientOptions(
        tile_size=tile_size,
        cm_per_pixel=cm_per_pixel,
        authors=tuple(author or ()),
        license=license_id,
        cite=cite,
        doi=doi,
    )
    for_client.require_one_aim(to, client, precision, layout, options)
    to = to or "onnx"
    words = [
        run_folder.absolute().name,
        client or to,
        *([] if precision == "float32" else [precision]),
    ]
    place = Path("exported") / "_".join(words) if out is None else out
    if client is not None:
        with progress.shown("export") as shown:
            limits = for_client.export_for(
                run_folder, client, place, options, overwrite=overwrite, progress=shown
            )
        print(printable.one_line(str(place)))
        for limit in limits:
            print(f"- {printable.one_line(limit)}")
        return
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
