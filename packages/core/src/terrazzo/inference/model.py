"""A trained model as an object: arrays in, labels or probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.config_parsing import StrPath
from terrazzo.base.disk_errors import unreadable
from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.progress import Progress
from terrazzo.data.model_input import as_seen, marked_values
from terrazzo.inference.tiled_images import tiled_rows
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io.resize import resize_image
from terrazzo.models import compatibility
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Predictor
from terrazzo.models.memory import ForwardPasses
from terrazzo.models.probabilities import labels_at_size, planes_at_size
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.runs import exported_model, model_source, saved_model
from terrazzo.runs.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Attributes:
        card: what it is: label map, bands, sizes.
        trainer: its network behind the contract of `terrazzo.models.contract`.
    """

    card: ModelCard
    trainer: Predictor

    @property
    def network(self) -> Any:
        """The network itself with the trained weights: `torch.nn.Module` or `keras.Model`.

        It takes normalised float32 images, ``(values - mean) / std`` of ``card.bands`` with 0 where
        there is no data, in the framework's own order of axes, and gives logits. Where
        ``card.bands.per_image``, mean and deviation are each image's own.

        Raises:
            ConfigError: SEG-X089, what predicts here holds no network of a framework.
        """
        network = getattr(self.trainer, "network", None)
        if network is None:
            raise ConfigError(
                "SEG-X089",
                "this model holds no network of a framework",
                observed=f"backend {self.card.backend!r}, {type(self.trainer).__name__}",
                allowed="the model of a run trained with the backend torch or keras",
                next_step="load the run itself, not a file that was exported from it",
            )
        return network

    def predict(
        self, image_HWC: NDArray[np.generic], *, file: str | Path = "(array)"
    ) -> NDArray[np.integer]:
        """Return train ids H×W of one image of any size; see `ModelCard.label_map` for names.

        Args:
            image_HWC: of the type and bands the model was trained on, in the files' own units;
                bands that prediction of GeoTIFF files derives from theirs must be in it.
            file: where it came from, for messages.

        Raises:
            DataError: SEG-D019 another type of pixel; SEG-D020 another number of bands, or not
                H×W×C.
            ResourceError: SEG-R006, the image does not fit into memory; `predict_by_tiles` needs
                less.
        """
        seen_HWC = self._seen(image_HWC, file)
        size = image_HWC.shape[:2]
        if seen_HWC.shape[:2] == size:
            labels_HW: NDArray[np.integer] = self._passes(file).predict_labels(seen_HWC[None])[0]
            return labels_HW
        return labels_at_size(self._passes(file).predict(seen_HWC[None])[0], size)

    def predict_probabilities(self, image_HWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the probabilities H×W×K of one image of any size; they add up to 1 over K.

        Raises:
            DataError: as `predict`.
        """
        return self.predict_both(image_HWC)[1]

    def predict_both(
        self, image_HWC: NDArray[np.generic], *, file: str | Path = "(array)"
    ) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
        """Return train ids H×W and probabilities H×W×K of one image, from one computation.

        The labels are the most probable classes of what is computed, as tiles have them.

        Args:
            image_HWC: as for `predict`.
            file: where it came from, for messages.

        Raises:
            DataError: as `predict`.
            ResourceError: as `predict`.
        """
        seen_HWC = self._seen(image_HWC, file)
        size = image_HWC.shape[:2]
        seen_HWK = self._passes(file).predict(seen_HWC[None])[0]
        probabilities_HWK = np.stack(list(planes_at_size(seen_HWK, size)), axis=2)
        return labels_at_size(probabilities_HWK, size), probabilities_HWK

    def predict_by_tiles(
        self,
        image_HWC: NDArray[np.generic],
        tiling: Tiling,
        *,
        file: str | Path = "(array)",
        probabilities: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> Iterator[tuple[NDArray[np.integer], NDArray[np.float32] | None]]:
        """Return train ids R×W of an image, some rows at a time, by tiles that are blended.

        Memory grows with the width of the image and the size of a tile. An image that fits into
        one tile gets the labels of `predict`. Models that see every image at one size cannot be
        used by tiles.

        Args:
            image_HWC: as for `predict`.
            tiling: tiles and their blending.
            file: where it came from, for messages.
            probabilities: also yield the probabilities R×W×K.
            say: told where fewer tiles a forward pass have to do.

        Raises:
            DataError: as `predict`.
        """
        assert self.card.image_size is None
        return tiled_rows(
            self.trainer,
            self._seen(image_HWC, file),  # as a whole: tiles have the statistics of their image
            tiling,
            self.card.label_map,
            probabilities=probabilities,
            say=say,
        )

    def _passes(self, file: str | Path) -> ForwardPasses:
        return ForwardPasses(
            self.trainer,
            f"predicting {file}",
            setting="the batch",
            smaller="predict it by tiles (--tile 512)",
            say=lambda _: None,  # a batch of one is not halved
        )

    def _require_known(self, image_HWC: NDArray[np.generic], file: str | Path) -> None:
        if image_HWC.ndim != 3:
            raise DataError(
                "SEG-D020",
                "an image has rows, columns and bands",
                file=file,
                observed=f"an array of shape {image_HWC.shape}",
                allowed=f"H×W×{len(self.card.bands)}",
                next_step="image[:, :, None] gives a grey image its one band",
            )
        nameless = tuple(f"band {number}" for number in range(1, image_HWC.shape[2] + 1))
        compatibility.require_known_pixels(
            self.card, compatibility.pixels_of_image(Path(file), image_HWC, nameless)
        )

    def _seen(
        self, image_HWC: NDArray[np.generic], file: str | Path = "(array)"
    ) -> NDArray[np.generic]:
        """Return the image at the size the model was trained on, where it was trained at one.

        Normalised where that is done by image.
        """
        self._require_known(image_HWC, file)
        size = self.card.image_size
        if self.card.bands.per_image:
            return as_seen(marked_values(image_HWC), size, self.card.bands)
        return image_HWC if size is None else resize_image(image_HWC, size)


def load_model(
    run: StrPath,
    *,
    runtime: str | None = None,
    precision: ComputePrecision | None = None,
    progress: Progress | None = None,
) -> Model:
    """Load the model of a finished run, or an exported one.

    Args:
        run: a run folder, its ``model/``, or an exported folder, which needs no framework.
        runtime: what computes it, see `terrazzo.runs.model_source.choose`; None: the framework of
            a run, the runtime that an exported folder is for.
        precision: of its arithmetic; None: that of training, or float32.
        progress: told of a folder of an earlier version, which cannot be verified, and of the
            runtime; None: nothing.

    Raises:
        CheckpointError: SEG-C012 there is no finished model; SEG-C006 it is damaged; SEG-C007 it is
            of a newer version; SEG-C021 it holds NaN.
        ResourceError: SEG-R030, a file is there and cannot be read.
        ConfigError: SEG-X003, its backend is not installed; for an exported folder as
            `exported_model.load`.
    """
    folder = model_folder(Path(run))
    say = _nothing if progress is None else progress.say
    card = saved_model.read_card(folder, None if progress is None else say)
    asked = runtime
    if asked is None and not exported_model.is_exported(folder):
        asked = model_source.OWN
    source = model_source.choose(folder, card, runtime=asked, precision=precision, say=say)
    return Model(*source.load())


def _nothing(_: str) -> None:
    """Take a line that nobody reads."""


def model_folder(folder: Path) -> Path:
    """Return the ``model/`` of a run folder, or `folder` itself where it holds none.

    Raises:
        ResourceError: SEG-R030, the folder cannot be looked into.
    """
    inside = RunFolder(folder).model
    try:
        return inside if inside.is_dir() else folder
    except PermissionError as error:
        raise unreadable(inside, error) from error
