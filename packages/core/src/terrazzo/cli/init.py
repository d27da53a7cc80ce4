"""``terrazzo init``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from terrazzo.cli.options import SetOption

if TYPE_CHECKING:
    from terrazzo.workflows.init import Proposal


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Images and their masks.")],
    backend: Annotated[
        str | None, typer.Option(help="keras or torch; one that is installed by default.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="See `terrazzo list models`; a small one by default.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="In the order of the values, or NAME=VALUE; with commas between."
        ),
    ] = None,
    assignments: SetOption = [],  # noqa: B006 - Typer's way to spell a repeatable option
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the files are written; FOLDER by default."),
    ] = None,
) -> None:
    """Write a recipe and a label map for a folder of images and masks, each line with its reason.

    Nothing is ever written over, and the data are left as they are.

    \b
    Examples:
        terrazzo init mine
        terrazzo init mine --classes background,cell --backend torch
        terrazzo init /data/mine --out mine_recipe
        terrazzo init mine --set data.options.masks=annotated --set training.epochs=40
    """
    from terrazzo.base import progress
    from terrazzo.workflows.init import Wishes
    from terrazzo.workflows.init import init as propose

    named = tuple(name for name in (classes or "").split(",") if name)
    wishes = Wishes(backend, model, named, tuple(assignments))
    with progress.shown("init") as shown:
        proposal = propose(folder, out, wishes, progress=shown)
    print_proposal(proposal)
    print(f"next: terrazzo run --config {_quoted(proposal.recipe)}")


def print_proposal(proposal: Proposal) -> None:
    """Print what was decided, what is not sure, and what was written."""
    from terrazzo.base import printable

    for line in proposal.decided:
        print(printable.lines(line))
    if proposal.unsure:
        print("\nnot sure:")
    for number, line in enumerate(proposal.unsure, start=1):
        print(printable.lines(f"  {number}. {line}"))
    written = ", ".join(str(p) for p in (proposal.recipe, proposal.labels) if p is not None)
    print(printable.lines(f"\nwritten: {written}"))


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
