"""The BioImage Model Zoo: a folder with ``rdf.yaml``, and the same as a zip.

Source: bioimageio.spec 0.5 (``ModelDescr``) and bioimageio.core. ``rdf.yaml`` is written as JSON,
which is YAML too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.export_clients.archive import sha256, zip_files
from terrazzo.export_clients.graph_file import FILE, GraphSession, opset_of, write_graph
from terrazzo.export_clients.order import ClientOrder, identifiers, require_option
from terrazzo.export_clients.readme import size_limits, value_limits, write_readme
from terrazzo.export_clients.verification import (
    Agreement,
    Answer,
    probabilities,
    real_images,
    require_agreement,
    sized_images,
    without_missing,
)
from terrazzo.models.exporter import INPUT, GraphForm
from terrazzo.models.runtimes.arrays import softmax

OPTIONS = frozenset({"authors", "license", "cite", "doi"})
RDF = "rdf.yaml"
_FORMAT = "0.5.12"
_SCORES = "probabilities"
_SMALLEST_SIDE = 16
_TEST_SIDE = 256
_SMALLEST_STD = 2e-3  # bioimageio.core adds 1e-6 to each
_MILLIMETRE = 1e-3
_INPUT_TEST, _OUTPUT_TEST = "test_input.npy", "test_output.npy"
_TORCHSCRIPT = "model.torchscript.pt"


def check(order: ClientOrder) -> None:
    """Refuse what the specification does not take.

    Raises:
        ConfigError: SEG-X090 authors, license, cite or doi are missing or none; SEG-X091 a band's
            deviation is too small.
    """
    _about(order)
    if min(order.card.bands.std) >= _SMALLEST_STD:
        return
    raise ConfigError(
        "SEG-X091",
        "the BioImage Model Zoo takes no deviation as small as this model's",
        observed=f"bands.std {min(order.card.bands.std):g}",
        allowed=f"{_SMALLEST_STD:g} and more",
        next_step="store the images in larger units, and train again",
    )


def form(order: ClientOrder) -> GraphForm:
    """Return the form of the graph."""
    size = order.card.image_size
    return GraphForm("float32", "NCHW", "outside", "logits", labels=False, size=size)


def write(order: ClientOrder, folder: Path) -> tuple[str, ...]:
    """Write the package's files, and the zip of them; return the limits to print."""
    path = write_graph(order, form(order), folder)
    weights = _torchscript(order, folder)
    weights["onnx"] = {
        "source": FILE,
        "sha256": sha256(path),
        "opset_version": opset_of(path),
        **({"parent": "torchscript"} if weights else {}),
    }
    _write_test_tensors(order, folder)
    limits = _limits(order, "torchscript" in weights)
    steps = (
        "Give the zip, or this folder, to a program of the BioImage Model Zoo (QuPath, deepImageJ, "
        "`bioimageio predict`).",
        "To publish it, upload the zip at bioimage.io; add a cover image there.",
    )
    tried = (
        "When this was exported the answers of these files were held against the model's own. "
        f"`bioimageio test {RDF}` repeats that for the test tensors; the scores of the model stand "
        "in the report of its run."
    )
    write_readme(order, folder, "the BioImage Model Zoo", steps, limits, tried=tried)
    description = {**_about(order), **_description(order, folder), "weights": weights}
    (folder / RDF).write_text(
        json.dumps(description, indent=2, ensure_ascii=False), encoding="utf-8"
    )
    zip_files(folder, folder / f"{order.name}.zip")
    return limits


def _about(order: ClientOrder) -> dict[str, Any]:
    options, client = order.options, "bioimageio"
    authors = require_option(client, options, "authors", '"Ada Lovelace"')
    license_id = require_option(client, options, "license", "CC-BY-4.0")
    cite = require_option(client, options, "cite", '"Lovelace 1843, Notes"')
    doi = require_option(client, options, "doi", "10.5281/zenodo.1234567")
    if not re.fullmatch(r"[A-Za-z0-9.+-]+", license_id):
        raise _wrong("--license", license_id, "an identifier of SPDX, such as CC-BY-4.0 or MIT")
    doi = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", doi)
    if re.fullmatch(r"10\.\d{4,9}/\S+", doi):
        source = {"doi": doi}
    elif re.fullmatch(r"https?://\S+", doi):
        source = {"url": doi}
    else:
        raise _wrong("--doi", doi, "a DOI such as 10.5281/zenodo.1234567, or an https address")
    card = order.card
    return {
        "type": "model",
        "format_version": _FORMAT,
        "name": f"{card.model.name} {order.name}".replace("_", " ")[:128],
        "description": f"Semantic segmentation into {len(card.label_map)} classes "
        f"({card.label_map.name}).",
        "authors": [{"name": name} for name in authors],
        "cite": [{"text": cite, **source}],
        "license": license_id,
        "tags": ["semantic-segmentation", card.backend, card.model.name],
    }


def _wrong(option: str, observed: str, allowed: str) -> ConfigError:
    return ConfigError(
        "SEG-X090",
        f"{option} is none that the BioImage Model Zoo takes",
        observed=f"{option} {observed}",
        allowed=allowed,
        next_step="correct it",
    )


def _torchscript(order: ClientOrder, folder: Path) -> dict[str, Any]:
    """Write TorchScript for QuPath where the backend can; return its entry."""
    if "torchscript" not in getattr(order.exporter, "CLIENT_FORMATS", ()):
        return {}
    try:
        facts = order.exporter.write("torchscript", order.trainer, order.card, form(order), folder)
    except ConfigError:  # a network that it cannot follow: ONNX is there all the same
        return {}
    return {
        "torchscript": {
            "source": _TORCHSCRIPT,
            "sha256": sha256(folder / _TORCHSCRIPT),
            "pytorch_version": str(facts["torch"]).partition("+")[0],
        }
    }


def _write_test_tensors(order: ClientOrder, folder: Path) -> None:
    """Write an image as files have it, and the probabilities that the model gives it."""
    real = [each[:1, :_TEST_SIDE, :_TEST_SIDE] for each in real_images(order)]
    fit = [each for each in real if min(each.shape[1:3]) >= _SMALLEST_SIDE]
    size = order.card.image_size
    if size is not None:
        fit = [each[:1] for each in real_images(order) if each.shape[1:3] == size]
    # Where all are too small: what the other ones are verified with is as good.
    test_1HWC = fit[0] if fit else list(sized_images(order, missing=False))[-1][:1]
    test_1HWC = without_missing(order, test_1HWC)
    expected_1HWK = probabilities(order, test_1HWC)
    for name, array in ((_INPUT_TEST, test_1HWC), (_OUTPUT_TEST, expected_1HWK)):
        np.save(folder / name, np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def _description(order: ClientOrder, folder: Path) -> dict[str, Any]:
    card = order.card
    to_float = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
    standardise = {
        "id": "fixed_zero_mean_unit_variance",
        "kwargs": {
            "axis": "channel",
            "mean": list(card.bands.mean),
            "std": list(card.bands.std),
        },
    }
    entry = {
        "id": INPUT,
        "description": f"{', '.join(card.bands.names)} as image files hold them",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": identifiers(card.bands.names, "band")},
            *(_space(order, axis, _input_size(order, axis)) for axis in "yx"),
        ],
        "test_tensor": _file(folder, _INPUT_TEST),
        "data": {"type": card.bands.dtype},
        # The last one is not idle: without it the type of the data is restored behind our back.
        "preprocessing": [to_float, standardise, to_float],
    }
    answer = {
        "id": _SCORES,
        "description": "probability of each class",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": identifiers(card.label_map.names, "class")},
            *(_space(order, axis, {"tensor_id": INPUT, "axis_id": axis}) for axis in "yx"),
        ],
        "test_tensor": _file(folder, _OUTPUT_TEST),
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "postprocessing": [{"id": "softmax", "kwargs": {"axis": "channel"}}],
    }
    return {
        "documentation": _file(folder, "README.md"),
        "inputs": [entry],
        "outputs": [answer],
        "config": {
            "terrazzo": {
                "run": order.run,
                "weights_sha256": order.digest,
                "bands": list(card.bands.names),
                "classes": list(card.label_map.names),
                "colours": [each.colour for each in card.label_map.classes],
            }
        },
    }


def _file(folder: Path, name: str) -> dict[str, str]:
    return {"source": name, "sha256": sha256(folder / name)}


def _input_size(order: ClientOrder, axis: str) -> Any:
    if order.card.image_size is None:
        return {"min": _SMALLEST_SIDE, "step": 1}
    return order.card.image_size["yx".index(axis)]


def _space(order: ClientOrder, axis: str, size: object) -> dict[str, Any]:
    sizes = order.card.pixel_metres
    entry = {"type": "space", "id": axis, "size": size}
    if sizes is None:
        return entry
    low, high = sizes.width if axis == "x" else sizes.height
    metres = (low + high) / 2
    if metres < _MILLIMETRE:
        return {**entry, "unit": "micrometer", "scale": metres * 1e6}
    return {**entry, "unit": "meter", "scale": metres}


def _limits(order: ClientOrder, has_torchscript: bool) -> tuple[str, ...]:
    return (
        "predict whole images: there is no halo, so blocks leave seams where they meet",
        "ilastik reads state dicts of PyTorch only, and cannot open this"
        if has_torchscript
        else "the weights are ONNX alone: QuPath and ilastik want weights of PyTorch",
        "bioimageio.core 0.11 wants pydantic below 2.14",
        "names of bands and classes are written as identifiers; the real ones stand in "
        "config.terrazzo",
        *size_limits(order),
        *value_limits(order, missing_inside=False),
    )


def verify(order: ClientOrder, folder: Path) -> Agreement:
    """Hold what bioimageio.core will compute against the model.

    Raises:
        CheckpointError: SEG-C070, they differ.
    """
    images = (
        each
        for each in sized_images(order, missing=False)
        if min(each.shape[1:3]) >= _SMALLEST_SIDE
    )
    return require_agreement("bioimageio", order, images, Program(folder))


class Program:
    """What bioimageio.core does with an image, by the ``rdf.yaml`` that it finds.

    Args:
        folder: that `write` has filled.
    """

    def __init__(self, folder: Path) -> None:
        found = json.loads((folder / RDF).read_text(encoding="utf-8"))
        self._session = GraphSession(folder / found["weights"]["onnx"]["source"])
        _, standardise, _ = found["inputs"][0]["preprocessing"]
        self._mean, self._std = (np.array(standardise["kwargs"][key]) for key in ("mean", "std"))

    def __call__(self, images_BHWC: NDArray[np.generic]) -> Answer:
        """Return labels and probabilities."""
        values_BHWC = images_BHWC.astype(np.float32)
        standardised_BHWC = ((values_BHWC - self._mean) / (self._std + 1e-6)).astype(np.float32)
        (scores_BKHW,) = self._session.run(standardised_BHWC.transpose(0, 3, 1, 2)).values()
        return scores_BKHW.argmax(axis=1), softmax(scores_BKHW.transpose(0, 2, 3, 1))
