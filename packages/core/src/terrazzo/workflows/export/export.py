"""From a run to a folder that another runtime reads, verified before it is there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import make_folder, replacing_folder
from terrazzo.base.config_parsing import StrPath
from terrazzo.base.disk_errors import writing
from terrazzo.base.errors import CheckpointError, ConfigError, DataError, TerrazzoError
from terrazzo.base.output_paths import is_inside
from terrazzo.base.progress import Progress, Silent
from terrazzo.data import datasets
from terrazzo.inference.model import model_folder
from terrazzo.models import runtimes
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Trainer
from terrazzo.models.exporter import Exporter, ExportPrecision, GraphForm, Layout, exporter
from terrazzo.runs import exported_model, saved_model
from terrazzo.runs.conversion import raw_form
from terrazzo.runs.folder import RunFolder
from terrazzo.runs.own_data import own_data
from terrazzo.workflows.export import formats, precisions, readme, verification
from terrazzo.workflows.export.verification import ValidationData

_CALIBRATION_IMAGES, _CALIBRATION_SIDE = 64, 512
_RUNTIME_OF = {to: name for name, to in runtimes.RUNTIMES.items()}


def export(
    run: StrPath,
    to: str,
    out: StrPath,
    *,
    precision: ExportPrecision = "float32",
    layout: Layout = "NHWC",
    score: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the model of a finished run in another form.

    The written files are opened in the runtime they are for, in a process of its own, and held
    against the model itself: logits and labels on noise and on images of the run at many sizes, and
    the scores of its split ``val``. What does not agree is not left behind.

    Args:
        run: a run folder, or its ``model/``.
        to: ``onnx``, ``openvino``, ``litert``, ``torch``, ``keras`` or ``huggingface``.
        out: the folder to write.
        precision: of weights and arithmetic; int8 needs the images of the run.
        layout: of the input, NHWC as image files are or NCHW.
        score: also score ``val`` with both, where the run's data are there.
        overwrite: replace an exported folder in `out`.
        progress: told how far it is; None: shows nothing.

    Returns:
        `out`.

    Raises:
        ConfigError: SEG-X080 there is no such form of this model; SEG-X081 a package is missing;
            SEG-X032, `out` lies in the run.
        CheckpointError: SEG-C002 `out` is taken; SEG-C070 the files do not give what the model
            gives; as `saved_model.load`.
        DataError: SEG-D016, int8 without images.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    progress = Silent() if progress is None else progress
    run, out = Path(run), Path(out)
    folder = model_folder(run)
    card = saved_model.read_card(folder, progress.say)
    formats.require_fixed_normalization(card)
    own = exporter(card.backend)
    formats.require_offered(to, precision, layout, card, own)
    if to in _RUNTIME_OF:
        runtimes.require(_RUNTIME_OF[to])
    refuse_place(out, run, overwrite=overwrite)
    form = replace(raw_form(card), layout=layout, precision=precision)
    _, trainer = saved_model.load(folder, precision="float32")
    data = validation_data(run, progress) if score else None
    if to == "litert" and data is not None and data.recipe.data.format == "geotiff":
        # Values may be missing, which NaN says; its runtime cannot be given another type.
        form = replace(form, dtype="float32")
    calibration = _calibration(run, card) if precision == "int8" else None
    make_folder(out.absolute().parent)
    with replacing_folder(out.absolute()) as temporary:
        progress.say(f"writing {to} in {precision}")
        facts = _write(own, trainer, card, to, form, temporary, calibration)
        form = replace(
            form,
            labels=form.labels and facts.pop("labels", True) is True,
            opset=int(facts.get("opset", form.opset)),
        )
        digest = saved_model.sha256_of_weights(folder)
        origin = {"name": run.absolute().name, "weights_sha256": digest, "step": card.step}
        description = exported_model.describe(card, to, form, facts, origin)
        with writing(temporary, problem="the exported model could not be written"):
            exported_model.write(temporary, card, description, {})
        progress.say("verifying it in its runtime" + (", scoring val" if data else ""))
        given = verification.reference(trainer, own, card, to, data)
        verified = verification.verify(
            temporary, card, form, given, None if data is None else run.absolute()
        )
        with writing(temporary, problem="the exported model could not be written"):
            if to == "huggingface":  # the page of a hub: its own form, and how it is loaded
                page = own.model_card(card, readme.hub_scores(verified))
            else:
                page = readme.text(str(origin["name"]), card, to, form, verified)
            (temporary / "README.md").write_text(page, encoding="utf-8")
            exported_model.write(temporary, card, description, verified)
    return out


def refuse_place(out: Path, run: Path, *, overwrite: bool) -> None:
    """Refuse to write over the run, or over what is no exported folder.

    Raises:
        ConfigError: SEG-X032.
        CheckpointError: SEG-C002.
    """
    if is_inside(run, out) or run.absolute() == out.absolute():
        raise ConfigError(
            "SEG-X032",
            "the exported folder would replace the run",
            file=out,
            observed=f"the input is {run}",
            next_step="choose another place with --out DIR",
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    ours = exported_model.is_exported(out)
    if overwrite and ours:
        return
    raise CheckpointError(
        "SEG-C002",
        "the exported folder exists" if ours else "something else is in the place of the export",
        file=out,
        next_step="--out DIR takes another place" + ("; --overwrite replaces it" if ours else ""),
    )


def validation_data(run: Path, progress: Progress) -> ValidationData | None:
    """Open the split ``val`` of a run; None, and a line, where its data are not here."""
    folder = RunFolder(run)
    if not folder.config.is_file():
        progress.say(f"{run} has no config.toml: compared on noise, not scored")
        return None
    try:
        recipe = folder.read_config()
        split = datasets.open_split(own_data(folder, recipe.data), "val")
        split.read(0)
    except (ConfigError, DataError) as error:
        first = str(error).partition("\n")[0]
        progress.say(f"the images of the run are not to be had: compared on noise ({first})")
        return None
    return ValidationData(run, split, recipe, progress)


def _write(
    own: Exporter,
    trainer: Trainer,
    card: ModelCard,
    to: str,
    form: GraphForm,
    folder: Path,
    calibration: list[NDArray[np.generic]] | None,
) -> dict[str, Any]:
    """Write the files of a format; those of other precisions are made from float32."""
    plain = replace(form, precision="float32")
    if to == "onnx" and form.precision != "float32":
        facts = own.write("onnx", trainer, card, plain, folder)
        file = folder / "model.onnx"
        if form.precision == "float16":
            precisions.to_float16(file)
        else:
            precisions.to_int8(file, form, calibration or [])
        return dict(facts)
    if to == "openvino" and form.precision == "int8":
        runtimes.require("onnxruntime")
        facts = own.write("onnx", trainer, card, plain, folder)
        precisions.to_int8(folder / "model.onnx", form, calibration or [])
        precisions.openvino_from_onnx(folder / "model.onnx", folder)
        return {**facts, "openvino": runtimes.version("openvino")}
    return dict(own.write(to, trainer, card, form, folder, calibration))


def _calibration(run: Path, card: ModelCard) -> list[NDArray[np.generic]]:
    """Return images of the run's training data, evenly spaced, as the model is shown them.

    Raises:
        DataError: SEG-D016, they are not there.
    """
    folder = RunFolder(run)
    try:
        recipe = folder.read_config()
        split = datasets.open_split(own_data(folder, recipe.data), "train")
    except TerrazzoError as error:
        raise DataError(
            "SEG-D016",
            "int8 needs images of training, to see which values occur",
            file=run,
            observed=str(error).partition("\n")[0],
            next_step="bring the data back, or export in float32 or float16",
        ) from error
    return list(_spread_images(split, card))


def _spread_images(split: datasets.Split, card: ModelCard) -> Iterator[NDArray[np.generic]]:
    indices = np.linspace(0, len(split) - 1, min(len(split), _CALIBRATION_IMAGES)).astype(int)
    for index in itertools.islice(indices, _CALIBRATION_IMAGES):
        image_HWC = verification.seen(split, int(index), card)
        if image_HWC.dtype != card.bands.dtype:  # values are missing
            filled_HWC = np.where(np.isnan(image_HWC), card.bands.mean, image_HWC)
            image_HWC = filled_HWC.astype(card.bands.dtype)
        yield image_HWC[None, :_CALIBRATION_SIDE, :_CALIBRATION_SIDE]
