"""``terrazzo check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from terrazzo.cli.options import SetOption, idle_option


def check(
    root: Annotated[
        Path | None, typer.Argument(metavar="ROOT", help="Folder of the data set.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="RECIPE", help="Check the data of a recipe."),
    ] = None,
    format: Annotated[  # noqa: A002 - as the recipes call it
        str, typer.Option(help="How ROOT is read; see `terrazzo list datasets`.")
    ] = "folder",
    labels: Annotated[
        str | None, typer.Option(help="Label map, or a path ending in .toml or .csv.")
    ] = None,
    assignments: SetOption = [],  # noqa: B006 - Typer's way to spell a repeatable option
    run_folder: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="RUN", help="A finished run, whose model looks for wrong labels."
        ),
    ] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write masks of the labels that model proposes there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Look again at files that have not changed.")
    ] = False,
) -> None:
    """Check data: decode every file of a data set once and say what is wrong, worst first.

    Ends with exit code 3 where something must be put right before training.

    \b
    Examples:
        terrazzo check --config recipes/camvid/unet_quick.toml
        terrazzo check data/camvid --format camvid
        terrazzo check data/mine --set data.options.mask_kind=colour
        terrazzo check data/mine --labels mine.toml --json
        terrazzo check data/mine --run runs/mine --corrections proposed
    """
    from terrazzo.base import printable, progress
    from terrazzo.base.recipe import load_data_config
    from terrazzo.check import check_data

    if corrections is not None and run_folder is None:
        raise idle_option("--corrections", "--run RUN")
    notes: list[str] = []
    data = load_data_config(
        config, root, format, labels, assignments=tuple(assignments), note=notes.append
    )
    with progress.shown("check") as shown:
        for note in notes:
            shown.say(note)
        report = check_data(
            data, progress=shown, fresh=fresh, run=run_folder, corrections=corrections
        )
    print(report.as_json() if as_json else printable.lines(report.as_text()))
    is_bare = root is not None and config is None and labels is None and format == "folder"
    if root is not None and is_bare and not (as_json or run_folder):
        print(printable.lines(_next(root)))
    raise typer.Exit(3 if report.must_stop else 0)


def _next(root: Path) -> str:
    """Say what writes the files that a person with a folder alone lacks."""
    import shlex

    folder = shlex.quote(str(root))
    if (root / "recipe.toml").is_file():
        return f"next: terrazzo run {folder} trains by the recipe that is there"
    return (
        f"next: terrazzo init {folder} writes a recipe and a label map; it looks for other names "
        "of folders, endings such as _mask and files of labelling tools"
    )
