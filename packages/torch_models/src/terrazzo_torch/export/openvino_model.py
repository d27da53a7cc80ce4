"""OpenVINO's own form: ``model.xml`` and ``model.bin``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.jit._trace import TracerWarning

from terrazzo.models import openvino_conversion, runtimes
from terrazzo.models.exporter import INPUT, LABELS
from terrazzo_torch.export.graph import example, graph
from terrazzo_torch.transformers_messages import transformers_messages_hidden

if TYPE_CHECKING:
    import openvino

    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_torch.trainer import TorchTrainer


def write(
    trainer: TorchTrainer, card: ModelCard, form: GraphForm, folder: Path
) -> dict[str, str | int]:
    """Write ``model.xml`` and ``model.bin``; half of the bits of the weights for float16.

    Raises:
        ConfigError: SEG-X080, this precision cannot be written; SEG-X081, OpenVINO is not
            installed.
    """
    runtimes.require("openvino")
    import openvino

    # OpenVINO halves weights itself, and computes in what its device is good at.
    halved = form.precision == "float16"
    module = graph(trainer, card, replace(form, precision="float32") if halved else form)
    # Its tracer knows no uint16; the types at both ends are set below. Not int32 in its place: a
    # runtime that is given float32, with NaN where values are missing, would cast NaN to it.
    module.label_dtype = torch.int32
    images = example(form, len(card.bands))
    if images.dtype == torch.uint16:
        images = images.float()
    with torch.no_grad(), warnings.catch_warnings(), transformers_messages_hidden():
        # What is traced has no branch on the size, see `pad_to_multiple`; torch calls its own
        # tracer old, and transformers its own names. It also warns of the loss when the tracer
        # looks at every attribute.
        for category in (TracerWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category)
        model = openvino_conversion.convert(
            module, example_input=images, input=[openvino.PartialShape(_shape(form, images))]
        )
    model.inputs[0].set_names({INPUT})
    for output, name in zip(model.outputs, module.outputs, strict=True):
        output.set_names({name})
    model = _with_types(model, form, card)
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=halved)
    return {"openvino": runtimes.version("openvino")}


def _with_types(model: openvino.Model, form: GraphForm, card: ModelCard) -> openvino.Model:
    """Let a traced model take and give the types of image files and label maps."""
    from openvino import Type
    from openvino.preprocess import PrePostProcessor

    types = {"uint8": Type.u8, "uint16": Type.u16}
    ends = PrePostProcessor(model)
    if form.normalization == "inside" and form.dtype in types:
        ends.input(INPUT).tensor().set_element_type(types[form.dtype])
    if form.labels:
        ends.output(LABELS).tensor().set_element_type(types[card.label_map.dtype.name])
    return ends.build()


def _shape(form: GraphForm, images: torch.Tensor) -> list[int]:
    """Return the lengths of the input's axes, -1 where any will do."""
    height, width = form.size or (-1, -1)
    if form.layout == "NHWC":
        return [-1, height, width, images.shape[3]]
    return [-1, images.shape[1], height, width]
