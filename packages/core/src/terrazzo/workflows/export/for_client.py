"""From a run to what a program of others opens, verified before it is there."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo import export_clients
from terrazzo.base.atomic_write import make_folder, replacing_folder
from terrazzo.base.config_parsing import StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.base.progress import Progress, Silent
from terrazzo.data.pixel_size import pixel_sizes_on_map
from terrazzo.export_clients import ClientOptions, ClientOrder
from terrazzo.export_clients.order import OPTION_NAMES
from terrazzo.inference.model import model_folder
from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import exporter
from terrazzo.runs import exported_model, saved_model
from terrazzo.workflows.export import formats
from terrazzo.workflows.export.export import refuse_place, validation_data
from terrazzo.workflows.export.verification import ValidationData, seen

_IMAGES = 3


def export_for(
    run: StrPath,
    client: str,
    out: StrPath,
    options: ClientOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Write the model of a finished run as a program of others opens it.

    Args:
        run: a run folder, or its ``model/``.
        client: ``arcgis``, ``bioimageio``, ``deepness``, ``mlflow`` or ``triton``.
        out: the folder to write.
        options: what the program asks for beside the model; None: nothing is said.
        overwrite: replace an exported folder in `out`.
        progress: told how far it is; None: shows nothing.

    Returns:
        What the user must know, a line each.

    Raises:
        ConfigError: SEG-X004 unknown program; SEG-X080 the model cannot be written; SEG-X081 a
            package is missing; SEG-X090 an option is missing, wrong or means nothing to this
            program; SEG-X091 the model is none for it; SEG-X032, `out` lies in the run.
        CheckpointError: SEG-C002 `out` is taken; SEG-C070 what was written does not answer as the
            model does; as `saved_model.load`.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    progress = Silent() if progress is None else progress
    run, out = Path(run), Path(out)
    folder = model_folder(run)
    card = saved_model.read_card(folder, progress.say)
    formats.require_fixed_normalization(card)
    digest = saved_model.sha256_of_weights(folder)
    data = validation_data(run, progress)
    order = ClientOrder(
        card=card,
        trainer=None,
        exporter=exporter(card.backend),
        options=options or ClientOptions(),
        images=(),
        run=run.absolute().name,
        digest=digest,
        on_map=None if data is None else pixel_sizes_on_map(data.split),
    )
    export_clients.check(client, order)
    refuse_place(out, run, overwrite=overwrite)
    _, trainer = saved_model.load(folder, precision="float32")
    order = replace(order, trainer=trainer, images=_images(data, card))
    make_folder(out.absolute().parent)
    with replacing_folder(out.absolute()) as temporary:
        progress.say(f"writing and verifying what {client} opens")
        written = export_clients.fill(client, order, temporary)
        origin = {"name": order.run, "weights_sha256": digest, "step": card.step}
        description = exported_model.describe(card, client, written.form, {}, origin)
        found = {"by": f"what {client} computes", **asdict(written.agreement)}
        exported_model.write(temporary, card, description, found)
    progress.say(str(written.agreement))
    return written.limits


def require_one_aim(
    to: str | None, client: str | None, precision: str, layout: str, options: ClientOptions
) -> None:
    """Refuse options of a format beside those of a program.

    Args:
        to: a format; None: none is named.
        client: a program; None: none is named.
        precision: as it is by default, or another.
        layout: as it is by default, or another.
        options: of a program.

    Raises:
        ConfigError: SEG-X090.
    """
    if client is None:
        given = [
            word for name, word in OPTION_NAMES.items() if getattr(options, name) not in (None, ())
        ]
        problem, allowed = "are for programs", "together with --for PROGRAM"
    else:
        given = [
            *([] if to is None else [f"--to {to}"]),
            *([] if precision == "float32" else [f"--precision {precision}"]),
            *([] if layout == "NHWC" else [f"--layout {layout}"]),
        ]
        problem, allowed = "are for runtimes", f"without --for: {client} has its own form"
    if given:
        raise ConfigError(
            "SEG-X090",
            f"these options {problem}",
            observed=", ".join(given),
            allowed=allowed,
            next_step="leave one or the other away",
        )


def _images(data: ValidationData | None, card: ModelCard) -> tuple[NDArray[np.generic], ...]:
    """Return images of the run's split ``val``, evenly spaced; none where they are not here."""
    if data is None:
        return ()
    last = len(data.split) - 1
    indices = np.unique(np.linspace(0, last, _IMAGES).astype(int))
    return tuple(seen(data.split, int(index), card)[None] for index in indices)
