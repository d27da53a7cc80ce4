"""``terrazzo serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from terrazzo.cli.options import PrecisionOption, compute_precision


def serve(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A finished run, or an export.")],
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 8000,
    max_pixels: Annotated[
        int | None, typer.Option(help="Rows × columns of an image; 16,777,216.")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(help="Of the body of a request; 67,108,864.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds from request to answer; 60.")
    ] = None,
    queue: Annotated[
        int | None, typer.Option(help="Requests that may be worked on or wait; 32.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images or tiles of one size in one forward pass; 8.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also answer to this name, as a proxy sends it."),
    ] = None,
    any_pixel_size: Annotated[
        bool, typer.Option("--any-pixel-size", help="Take pixels of another size than trained on.")
    ] = False,
    runtime: Annotated[
        str | None,
        typer.Option(help="torch or keras (a run's own), openvino or onnxruntime."),
    ] = None,
    precision: PrecisionOption = None,
) -> None:
    """Answer images with maps over HTTP: a page to drop them on, and POST /predict.

    \b
    Examples:
        terrazzo serve runs/demo_torch
        terrazzo serve runs/demo_torch --port 8080 --max-pixels 4000000 --runtime openvino
        curl --data-binary @photo.png -H 'Content-Type: image/png' \\
            http://127.0.0.1:8000/predict -o mask.png
    """
    from terrazzo.base import config_parsing, printable
    from terrazzo.base.progress import PlainLines
    from terrazzo.serving.server import serve
    from terrazzo.serving.settings import ServeSettings

    given = {
        "max_pixels": max_pixels,
        "max_bytes": max_bytes,
        "timeout": timeout,
        "queue": queue,
        "batch": batch,
    }
    values = {
        "host": host,
        "port": port,
        "allow_hosts": tuple(allow_host or ()),
        "any_pixel_size": any_pixel_size,
        "runtime": runtime,
        "precision": compute_precision(precision),
        **{name: value for name, value in given.items() if value is not None},
    }
    settings = config_parsing.parse(ServeSettings, values, where="command line")
    shown = printable.one_line(str(model))

    def ready(address: str) -> None:
        print(f"serving {shown} at {address} (Ctrl+C ends it)", flush=True)

    serve(model, settings, PlainLines(), ready)
