"""What a backend does to hand a trained model to other runtimes.

Each backend that takes part has a module ``export`` that imports no framework when it is imported:
`exporter` finds it. Core adds the card, the files' sums, the verification and the formats that are
made from others.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.models import backends

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.session import Session

INPUT = "image"
"""Name of the input of every graph."""
LABELS = "labels"
"""Name of the second output, where there is one."""

Layout = Literal["NHWC", "NCHW"]
Output = Literal["logits", "probabilities"]
ExportPrecision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class GraphForm:
    """What a written graph takes and gives.

    Attributes:
        dtype: of the input, ``uint8``, ``uint16`` or ``float32``: values as image files hold them.
        layout: order of the axes of the input and of the first output.
        normalization: ``inside``: the graph takes each band's mean and deviation, and NaN becomes
            the mean; ``outside``: the caller has done so, and the input is float32.
        output: the first output, and its name; probabilities are the softmax over the classes.
        labels: a second output ``labels``, B×H×W in the label map's dtype, where the format can.
        size: rows and columns where they are fixed; None: any batch, height and width.
        precision: of the weights and of the arithmetic.
        opset: of ONNX.
    """

    dtype: str
    layout: Layout = "NHWC"
    normalization: Literal["inside", "outside"] = "inside"
    output: Output = "logits"
    labels: bool = True
    size: tuple[int, int] | None = None
    precision: ExportPrecision = "float32"
    opset: int = 20


class Exporter(Protocol):
    """What the module ``export`` of a backend holds."""

    FORMATS: tuple[str, ...]
    """The formats that it writes itself."""

    def write(
        self,
        to: str,
        trainer: Any,
        card: ModelCard,
        form: GraphForm,
        folder: Path,
        calibration: Iterable[NDArray[np.generic]] | None = None,
    ) -> dict[str, str | int]:
        """Write the files of a format.

        Args:
            to: one of `FORMATS`.
            trainer: of this backend, with the weights to write.
            card: what the model is.
            form: what the graph takes and gives.
            folder: is there, and empty.
            calibration: images 1×H×W×C of training, for int8.

        Returns:
            Facts for ``export.json``: versions, operator sets.

        Raises:
            ConfigError: SEG-X080, this model, format or precision cannot be written, with those
                that can.
        """
        ...

    def open(self, to: str, folder: Path, card: ModelCard, form: GraphForm) -> Session:
        """Open what `write` has written in a format that the framework itself reads."""
        ...

    def model_card(self, card: ModelCard, scores: Mapping[str, Any] | None) -> str:
        """Return the ``README.md`` of a Hugging Face folder, where that is one of `FORMATS`.

        Args:
            card: what the model is.
            scores: ``split``, ``definition``, ``scores``, ``intervals``, ``interval_definition``;
                None: not known.
        """
        ...

    def logits(self, trainer: Any, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K of the model itself, which exported files are held against."""
        ...


def exporter(backend: str) -> Exporter:
    """Return the exporter of a backend, without importing its framework.

    Raises:
        ConfigError: SEG-X080, it has none; SEG-X003, the backend is not installed.
    """
    package = backends.require(backend)
    try:
        return cast(Exporter, importlib.import_module(f"{package}.export"))
    except ModuleNotFoundError as error:
        if error.name != f"{package}.export":
            backends.load(backend)  # says how to install it
            raise
    raise ConfigError(
        "SEG-X080",
        f"models of the backend {backend!r} cannot be exported",
        observed=f"no module {package}.export",
        allowed="models of the backends torch and keras",
        next_step="train the model with one of them",
    )
