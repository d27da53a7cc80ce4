"""``terrazzo study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from terrazzo.cli.options import SetOption, require_ray


def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY", help="One of recipes/studies/.")],
    assignments: SetOption = [],  # noqa: B006 - Typer's way to spell a repeatable option
    only: Annotated[
        list[str],
        typer.Option(
            metavar="RUN",
            help="Do this run, and what it begins with, and compare what is done; may be repeated.",
        ),
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its folder; runs/NAME by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in DIR.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Ray cluster that does several runs at a time."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --ray: how many; one for each GPU by default.")
    ] = None,
) -> None:
    """Train the runs of a study one after another, or side by side, then compare them on one page.

    \b
    Examples:
        terrazzo study recipes/studies/pets_and_streets.toml
        terrazzo study recipes/studies/pets_and_streets.toml --set scale=small
        terrazzo study recipes/studies/pets_and_streets.toml --set scale=small --resume
        terrazzo study recipes/studies/pets_and_streets.toml --set all.training.steps=20
        terrazzo study recipes/studies/aerial.toml --only vit_large --resume
        terrazzo study recipes/studies/pets_and_streets.toml --ray auto --workers 2
    """
    from terrazzo.base.terminal import outlive_output
    from terrazzo.workflows.study.summary import run_and_print

    outlive_output()
    require_ray(ray, workers)
    run_and_print(
        file, tuple(assignments), out, resume=resume, ray=ray, workers=workers, only=tuple(only)
    )
