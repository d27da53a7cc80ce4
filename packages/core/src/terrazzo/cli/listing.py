"""``terrazzo list``."""

from __future__ import annotations

from typing import Annotated

import typer

from terrazzo.base.errors import unknown_name


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


def _list_models() -> None:
    from terrazzo.models import backends, catalog

    line = "{:<10}{:<26}{:<24}{:>13}  {:<16}{:<7}{}".format
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
