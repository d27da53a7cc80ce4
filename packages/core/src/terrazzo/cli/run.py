"""``terrazzo run``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from terrazzo.base.errors import ConfigError
from terrazzo.cli.options import SetOption, require_ray


def run(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            help="Images and masks without a recipe: `terrazzo init FOLDER` first, then this.",
        ),
    ] = None,
    backend: Annotated[str | None, typer.Option(help="keras or torch.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="RECIPE", help="A recipe; without one, the demo's."),
    ] = None,
    assignments: SetOption = [],  # noqa: B006 - Typer's way to spell a repeatable option
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; runs/NAME by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in DIR.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in DIR first.")
    ] = False,
    allow_changed_data: Annotated[
        bool,
        typer.Option("--allow-changed-data", help="Resume although the data have changed."),
    ] = False,
    allow_other_processes: Annotated[
        bool,
        typer.Option(
            "--allow-other-processes",
            help="Resume in another number of processes although results depend on it.",
        ),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Ray cluster whose processes train together."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of the cluster; one for each GPU by default."),
    ] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, help="With --ray: lost workers to go on after.")
    ] = 3,
    track: Annotated[
        list[str],
        typer.Option(
            metavar="KIND", help="Also send the log to mlflow or tensorboard; may be repeated."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Train by a recipe, score the best epoch on the test split, write a report.

    \b
    Examples:
        terrazzo run --backend keras
        terrazzo run mine
        terrazzo run --config recipes/camvid/unet_quick.toml --backend torch
        terrazzo run --config recipes/camvid/unet_quick.toml --set training.epochs=2 --out runs/try
        terrazzo run --config recipes/camvid/unet_quick.toml --resume
        terrazzo run --config recipes/camvid/unet_quick.toml --track mlflow --track tensorboard
        terrazzo run --config recipes/camvid/unet_quick.toml --ray auto --workers 4
    """
    from terrazzo import tracking
    from terrazzo.base import progress
    from terrazzo.base.processes import speaks
    from terrazzo.base.recipe import load_recipe
    from terrazzo.base.terminal import outlive_output
    from terrazzo.cli.score_table import print_scores
    from terrazzo.cli.signals import stop_on_signal
    from terrazzo.runs.folder import refuse_to_delete_inputs
    from terrazzo.workflows.on_ray import train_on_ray
    from terrazzo.workflows.train import train

    outlive_output()
    if folder is not None:
        config = _recipe_of(folder, config, backend, tuple(assignments))
    if config is None:
        config = _demo_recipe(backend)
    notes: list[str] = []
    recipe = load_recipe(config, assignments=tuple(assignments), backend=backend, note=notes.append)
    recipe = tracking.also(recipe, track)
    if overwrite:
        refuse_to_delete_inputs(out or Path("runs") / recipe.name, [config])
    require_ray(ray, workers)
    start = train
    if ray is not None:
        start = partial(train_on_ray, address=ray, workers=workers, max_failures=max_failures)
    with progress.shown(recipe.name) as shown:
        for note in notes:
            shown.say(note)
        finished = start(
            recipe,
            out,
            resume=resume,
            overwrite=overwrite,
            allow_changed_data=allow_changed_data,
            allow_other_processes=allow_other_processes,
            progress=shown,
            stop_requested=stop_on_signal(),
        )
    if speaks():
        print_scores(finished)


def _demo_recipe(backend: str | None) -> Path:
    """Return the recipe that runs when none is named: each backend's package brings its own."""
    from terrazzo.models import backends

    if backend is None:
        raise ConfigError(
            "SEG-X013",
            "no recipe is named",
            allowed="--config RECIPE, or --backend keras|torch for the demo",
            next_step="see `terrazzo run --help`",
        )
    return backends.demo_recipe(backend)


def _recipe_of(
    folder: Path, config: Path | None, backend: str | None, assignments: tuple[str, ...]
) -> Path:
    """Return the recipe in a folder of images, which is written where there is none.

    Raises:
        ConfigError: SEG-X013, a recipe is named as well; as `terrazzo.workflows.init.init`.
        DataError: as this.
    """
    from terrazzo.base import progress
    from terrazzo.cli.init import print_proposal
    from terrazzo.workflows.init import RECIPE, Wishes, init

    if config is not None:
        raise ConfigError(
            "SEG-X013",
            "name either a recipe or a folder",
            observed=f"{folder} and --config {config}",
            allowed="terrazzo run FOLDER, or terrazzo run --config RECIPE",
            next_step="a recipe names its folder in data.root",
        )
    recipe = folder / RECIPE
    if recipe.is_file():
        print(f"by the recipe that is there: {recipe}")
        return recipe
    with progress.shown("init") as shown:
        print_proposal(init(folder, None, Wishes(backend, None, (), assignments), progress=shown))
    return recipe
