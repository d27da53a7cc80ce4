"""``terrazzo list``."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from terrazzo.base.errors import unknown_name

if TYPE_CHECKING:
    from terrazzo.base.settings_table import Setting


def list_(
    kind: Annotated[str, typer.Argument(metavar="models|datasets|labels|settings|options")],
    name: Annotated[
        str | None,
        typer.Argument(
            help="A label map in full; settings that begin so; the format or model whose options "
            "are wanted."
        ),
    ] = None,
) -> None:
    """Show the models, the data-set formats, the label maps, or what a recipe can say.

    \b
    Examples:
        terrazzo list models
        terrazzo list labels camvid
        terrazzo list settings training
        terrazzo list options folder
        terrazzo list options unet
    """
    match kind:
        case "models":
            _list_models()
        case "datasets":
            _list_datasets()
        case "labels":
            _list_labels(name)
        case "settings":
            _list_settings(name or "")
        case "options":
            _list_options(name)
        case _:
            kinds = ("models", "datasets", "labels", "settings", "options")
            raise unknown_name("list", kind, kinds)


def _list_models() -> None:
    from terrazzo.models import backends, catalog

    line = "{:<10}{:<26}{:<26}{:>13}  {:<16}{:<7}{}".format
    print(line("backend", "model", "variant", "parameters", "strides", "bands", "pretrained"))
    for name in backends.PACKAGES:
        if name not in backends.installed():
            print(f"{name:<10}(not installed: pip install terrazzo-{name})")
            continue
        for model in backends.load(name).models():
            facts = catalog.read(name, model)
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
    from terrazzo.data import datasets

    width = max(map(len, datasets.formats())) + 2
    for name in datasets.formats():
        purpose = (datasets.load_format(name).__doc__ or "").strip().splitlines()[0]
        print(f"{name:<{width}}{purpose}")


def _list_labels(name: str | None) -> None:
    from terrazzo.base.console import PlainConsole
    from terrazzo.cli import label_table
    from terrazzo.data import labels

    if name is None:
        for each in labels.names():
            names = labels.load_label_map(each).names
            print(f"{each:<24}{len(names):>3}  {', '.join(names)}")
        return
    PlainConsole().print(label_table.table(labels.load_label_map(name)), soft_wrap=True)


def _list_settings(prefix: str) -> None:
    from terrazzo.base import settings_table
    from terrazzo.base.recipe import Config

    every = settings_table.of_class(Config)
    some = [each for each in every if each.key == prefix or each.key.startswith(f"{prefix}.")]
    if prefix and not some:
        tables = {each.key.rpartition(".")[0] or each.key for each in every}
        raise unknown_name("setting", prefix, sorted(tables))
    _print_settings(some if prefix else every)


def _list_options(name: str | None) -> None:
    from terrazzo.workflows import options

    for line in options.text(name or "", _width()):
        print(line)


def _print_settings(settings: list[Setting]) -> None:
    from terrazzo.base import settings_table

    for line in settings_table.text(settings, _width()):
        print(line)


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns
