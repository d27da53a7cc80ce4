"""The command line: words in, one call into `commands`, words out.

Imports nothing heavy at the top, so that ``--help`` answers at once.
"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from terrazzo import backends
from terrazzo.errors import ConfigError, TerrazzoError, unknown_name
from terrazzo.predict_command import predict

if TYPE_CHECKING:
    from terrazzo.commands import Outcome

app = typer.Typer(
    help="Train, evaluate and compare semantic segmentation models from Keras and PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help is ten times faster than a formatted one
    pretty_exceptions_enable=False,
)

metrics_app = typer.Typer(help="What a score means.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(metrics_app, name="metrics")

_Set = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
]


@app.command()
def run(
    context: typer.Context,
    backend: Annotated[str | None, typer.Option(help="keras or torch.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="RECIPE", help="A recipe; without one, the demo's."),
    ] = None,
    assignments: _Set = [],  # noqa: B006 - Typer's way to spell a repeatable option
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; runs/NAME by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in DIR.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in DIR first.")
    ] = False,
    track: Annotated[
        list[str],
        typer.Option(metavar="KIND", help="Show it in mlflow or tensorboard; may be repeated."),
    ] = [],  # noqa: B006
) -> None:
    """Train by a recipe, score the best epoch on the test split, write a report.

    \b
    Examples:
        terrazzo run --backend keras
        terrazzo run --config recipes/camvid/unet_quick.toml --backend torch
        terrazzo run --config recipes/camvid/unet_quick.toml --set training.epochs=2 --out runs/try
        terrazzo run --config recipes/camvid/unet_quick.toml --resume
        terrazzo run --config recipes/camvid/unet_quick.toml --track mlflow --track tensorboard
    """
    from terrazzo import commands, progress, tracking
    from terrazzo import config as recipes

    if config is None:
        config = _demo_recipe(context.obj, backend)
    recipe = recipes.load(config, assignments=tuple(assignments), backend=backend)
    recipe = tracking.also(recipe, track)
    out = out or Path("runs") / recipe.name
    with progress.shown(recipe.name) as shown:
        outcome = commands.run(
            recipe,
            out,
            resume=resume,
            overwrite=overwrite,
            progress=shown,
            stop_requested=_on_signal(),
        )
    _print_scores(outcome)


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Other data: a recipe, or a TOML with [data] alone."),
    ] = None,
    calibration: Annotated[
        bool | None,
        typer.Option(help="Reliability, Brier, ROC areas; by default as the recipe says."),
    ] = None,
    boundary: Annotated[
        bool | None, typer.Option(help="Boundary and trimap IoU; by default as the recipe says.")
    ] = None,
) -> None:
    """Score the model of a run on one split, of its own data or of others.

    \b
    Examples:
        terrazzo evaluate runs/demo_torch
        terrazzo evaluate runs/demo_torch --split val
        terrazzo evaluate runs/a_gta --data recipes/systems/a_city.toml
        terrazzo evaluate runs/demo_torch --calibration --boundary
    """
    from terrazzo import commands, progress

    wanted = {"calibration": calibration, "boundary": boundary}
    with progress.shown(f"evaluate {split}") as shown:
        outcome = commands.evaluate(run_folder, split, data=data, wanted=wanted, progress=shown)
    _print_scores(outcome)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY", help="One of recipes/studies/.")],
    assignments: _Set = [],  # noqa: B006 - Typer's way to spell a repeatable option
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its folder; runs/NAME by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in DIR.")] = False,
) -> None:
    """Train the runs of a study one after another, then compare them on one page.

    \b
    Examples:
        terrazzo study recipes/studies/pets_and_streets.toml
        terrazzo study recipes/studies/pets_and_streets.toml --set scale=small
        terrazzo study recipes/studies/pets_and_streets.toml --set scale=small --resume
    """
    from terrazzo import study_summary

    study_summary.run_and_print(file, tuple(assignments), out, resume=resume)


@app.command()
def check(
    root: Annotated[
        Path | None, typer.Argument(metavar="ROOT", help="Folder of the data set.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="RECIPE", help="Check the data of a recipe."),
    ] = None,
    format: Annotated[  # noqa: A002 - the word of the recipes
        str, typer.Option(help="How ROOT is read; see `terrazzo list datasets`.")
    ] = "folder",
    labels: Annotated[
        str | None, typer.Option(help="Label map, or a path ending in .toml or .csv.")
    ] = None,
    assignments: _Set = [],  # noqa: B006 - Typer's way to spell a repeatable option
    run_folder: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN", help="Let this run's model doubt labels."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Look again at files that have not changed.")
    ] = False,
) -> None:
    """Decode every file of a data set once and say what is wrong, worst first.

    Ends with exit code 3 where something must be put right before training.

    \b
    Examples:
        terrazzo check --config recipes/camvid/unet_quick.toml
        terrazzo check data/camvid --format camvid
        terrazzo check data/mine --set data.options.mask_kind=colour
        terrazzo check data/mine --labels mine.toml --json
    """
    from terrazzo import check as doctor
    from terrazzo import config as recipes
    from terrazzo import progress

    data = recipes.load_data(config, root, format, labels, assignments=tuple(assignments))
    with progress.shown("check") as shown:
        report = doctor.examine(data, progress=shown, fresh=fresh, run=run_folder)
    print(report.as_json() if as_json else report.as_text())
    raise typer.Exit(3 if report.must_stop else 0)


app.command()(predict)


@app.command()
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
    from terrazzo import convert as conversion

    out = out or run_folder.with_name(f"{run_folder.name}_{to}")
    conversion.convert(run_folder, to, out, overwrite=overwrite)
    print(out)


@app.command()
def compare(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("compare.html"),
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    group: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Draw pictures together whose names agree in this."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="All scores as CSV.")] = None,
    latex: Annotated[Path | None, typer.Option(metavar="FILE", help="A LaTeX table.")] = None,
    tables: Annotated[
        Path | None, typer.Option(metavar="DIR", help="All tables as CSV and LaTeX.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="All figures as PNG and SVG.")
    ] = None,
) -> None:
    """Rank runs that were scored on the same pictures, with intervals; write one page.

    \b
    Examples:
        terrazzo compare runs/camvid_torch runs/camvid_keras --out compare.html
        terrazzo compare runs/* --group '^[^_]+' --csv scores.csv --latex scores.tex
        terrazzo compare runs/a runs/b --tables paper --figures paper
    """
    from terrazzo import compare as comparing
    from terrazzo import compare_tables

    comparison = comparing.compare(run_folders, split=split, group=group)
    written = compare_tables.write_all(
        comparison, out, csv=csv, latex=latex, tables=tables, figures=figures
    )
    for path in written:
        print(path)


@metrics_app.command()
def explain(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A scored run.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
) -> None:
    """Show what well-known libraries and papers would call the mean IoU of a run, and why.

    \b
    Example:
        terrazzo metrics explain runs/demo_torch
    """
    from rich.console import Console

    from terrazzo import explanation

    Console(highlight=False).print(explanation.table(run_folder, split))


@app.command()
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
    from terrazzo import datasets, download, progress

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


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="models|datasets|labels")],
    name: Annotated[str | None, typer.Argument(help="One label map, shown in full.")] = None,
) -> None:
    """Show the models, the data-set formats or the label maps.

    \b
    Examples:
        terrazzo list models
        terrazzo list labels camvid
    """
    match kind:
        case "models":
            _list_models()
        case "datasets":
            _list_datasets()
        case "labels":
            _list_labels(name)
        case _:
            raise unknown_name("list", kind, ("models", "datasets", "labels"))


def main(recipes: Path = Path("recipes")) -> NoReturn:
    """Run the command line; a user's mistake ends in one message and its exit code.

    Args:
        recipes: where the demo's recipes lie.
    """
    try:
        app(obj=recipes)
    except TerrazzoError as error:
        print(f"error {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


def _demo_recipe(recipes: Path, backend: str | None) -> Path:
    """Return the recipe that runs when none is named."""
    if backend is None:
        raise ConfigError(
            "SEG-X013",
            "what shall be run?",
            allowed="--config RECIPE, or --backend keras|torch for the demo",
            next_step="see `terrazzo run --help`",
        )
    backends.require(backend)
    path = recipes / f"demo_{backend}.toml"
    if not path.is_file():
        raise ConfigError(
            "SEG-X005",
            "the demo's recipe is not here",
            file=path,
            next_step="run in a checkout of Terrazzo, or name a recipe with --config",
        )
    return path


def _on_signal() -> Callable[[], bool]:
    """Return a question that is answered yes once SIGTERM, SIGINT or SIGUSR1 has come.

    The first signal lets the step end and the state be saved; the second one ends at once.
    """
    received: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        print("stopping after this step; once more to stop at once", file=sys.stderr)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, remember)
    return lambda: bool(received)


def _print_scores(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    scores = outcome.evaluation.matrix.scores()
    matrix = outcome.evaluation.matrix
    table = Table(title=f"{outcome.run.path}: {outcome.evaluation.split}")
    table.add_column("class")
    for column in ("IoU", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    per_class = (scores.iou, scores.precision, scores.recall, scores.f1)
    for name, *values in zip(outcome.label_map.names, *per_class, strict=True):
        table.add_row(name, *map(_score_text, values))
    table.add_section()
    means = (scores.mean_iou, scores.mean_precision, scores.mean_recall, scores.mean_f1)
    table.add_row(f"mean of {scores.classes_present} classes", *map(_score_text, means))
    console = Console()
    console.print(table)
    console.print(
        f"{len(outcome.evaluation.names)} pictures, {int(matrix.counts.sum()):,} pixels counted, "
        f"{matrix.ignored:,} ignored; pixel accuracy {scores.pixel_accuracy:.4f}",
        highlight=False,
    )
    for line in outcome.further:
        console.print(line, highlight=False)
    console.print(f"report: {outcome.report}", highlight=False, soft_wrap=True)


def _score_text(value: float) -> str:
    return "absent" if math.isnan(value) else f"{value:.4f}"


def _list_models() -> None:
    from terrazzo import model_facts

    line = "{:<10}{:<26}{:<24}{:>13}  {:<16}{:<7}{}".format
    print(line("backend", "model", "variant", "parameters", "strides", "bands", "pretrained"))
    for name in backends.PACKAGES:
        if name not in backends.installed():
            print(f"{name:<10}(not installed: pip install terrazzo-{name})")
            continue
        for model in backends.load(name).models():
            facts = model_facts.read(name, model)
            if facts is None:
                print(f"{name:<10}{model}")
                continue
            pretrained = ", ".join(("false", *facts.pretrained, "PATH" if facts.pretrained else ""))
            for variant, numbers in facts.variants.items():
                strides = ", ".join(map(str, numbers.strides))
                print(
                    line(
                        name,
                        model,
                        variant,
                        f"{numbers.parameters:,}",
                        strides,
                        facts.bands,
                        pretrained.removesuffix(", "),
                    )
                )


def _list_datasets() -> None:
    from terrazzo import datasets

    for name in datasets.formats():
        purpose = (datasets.load_format(name).__doc__ or "").strip().splitlines()[0]
        print(f"{name:<14}{purpose}")


def _list_labels(name: str | None) -> None:
    from rich.console import Console

    from terrazzo import labels, swatches

    if name is None:
        for each in labels.names():
            names = labels.load(each).names
            print(f"{each:<24}{len(names):>3}  {', '.join(names)}")
        return
    Console(highlight=False).print(swatches.table(labels.load(name)), soft_wrap=True)
