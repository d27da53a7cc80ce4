"""``terrazzo data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from terrazzo.base.errors import unknown_name


def data(
    name: Annotated[str, typer.Argument(help="A data-set format; see `terrazzo list datasets`.")],
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to; data/NAME by default.")
    ] = None,
) -> None:
    """Fetch a data set, or say where to register for it and what its folders must look like.

    \b
    Examples:
        terrazzo data camvid --root data/camvid
        terrazzo data cityscapes
    """
    from terrazzo.base import progress
    from terrazzo.data import datasets, download

    if name in download.FETCHED:
        with progress.shown(name) as shown:
            root = root or Path("data") / name
            download.fetch(name, download.FETCHED[name], root, progress=shown)
    elif name in download.ELSEWHERE:
        print(f"{name} cannot be fetched for you: {download.ELSEWHERE[name]}.\n")
        print((datasets.load_format(name).__doc__ or "").strip())
        raise typer.Exit(3)
    else:
        raise unknown_name("data set", name, (*download.FETCHED, *download.ELSEWHERE))
