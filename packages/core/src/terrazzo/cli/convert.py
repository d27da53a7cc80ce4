"""``terrazzo convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    to: Annotated[str, typer.Option(help="keras or torch.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; RUN_keras or so by default.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in DIR first.")
    ] = False,
) -> None:
    """Move a trained unet or segformer from PyTorch to Keras or back; it scores the same there.

    \b
    Examples:
        terrazzo convert runs/camvid_unet_quick --to keras
        terrazzo evaluate runs/camvid_unet_quick_keras
    """
    from terrazzo.base import printable
    from terrazzo.base.progress import PlainLines
    from terrazzo.workflows import convert

    out = out or run_folder.with_name(f"{run_folder.name}_{to}")
    progress = PlainLines()
    convert.convert(run_folder, to, out, overwrite=overwrite, progress=progress)
    print(printable.one_line(str(out)))
