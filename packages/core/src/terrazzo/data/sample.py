"""What travels from the files to the models: samples, batches, bands.

Shape legend, used as suffixes on array names everywhere:
    B images in a batch · N images in a data set · H rows · W columns · C bands · K classes
Images are uint8, uint16 or float32 with channels last, in the file's own units. Labels hold train
ids; `IGNORE` marks pixels that teach and score nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""Label value of a pixel that is neither trained on nor scored."""


@dataclass(frozen=True, slots=True)
class RawSample:
    """One image as its files hold it, before any label map.

    Attributes:
        name: unique within its split.
        image_HWC: uint8, uint16 or float32.
        raw_label: H×W integers, or H×W×3 uint8 for colour masks, in the file's own values.
        valid_HW: bool; False where the pixel neither teaches nor scores: no data in the image, no
            label, outside the area. None: nowhere.
        image_file: where the image came from, for messages.
        label_file: where the label came from, for messages.
        present_HWC: bool; False where the value of a band is missing. None: nowhere.
        corner: first row and column in the scene it was cut from; None: it is a whole file.
    """

    name: str
    image_HWC: NDArray[np.generic]
    raw_label: NDArray[np.generic]
    valid_HW: NDArray[np.bool_] | None
    image_file: str
    label_file: str
    present_HWC: NDArray[np.bool_] | None = None
    corner: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its label as train ids.

    Attributes:
        name: unique within its split.
        image_HWC: uint8, uint16 or float32.
        label_HW: uint8 or uint16 train ids in 0…K-1, or the label map's ignore value.
        image_file: where the image came from, for messages.
        present_HWC: bool; False where the value of a band is missing. None: nowhere.
    """

    name: str
    image_HWC: NDArray[np.generic]
    label_HW: NDArray[np.generic]
    image_file: str
    present_HWC: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one size that make one optimiser step.

    Attributes:
        images_BHWC: uint8, uint16 or float32, as in the files; float32 with NaN where values are
            missing; float32 where images are normalised each by itself, see `Bands.per_image`.
        labels_BHW: uint8 or uint16 train ids, or the label map's ignore value.
        names: B names.
        files: B image files, for messages.
        idle: whether it only stands in for this process's share of a batch, which is empty: one
            image, whose label is all IGNORE, and which no statistic may know of.
    """

    images_BHWC: NDArray[np.generic]
    labels_BHW: NDArray[np.generic]
    names: tuple[str, ...]
    files: tuple[str, ...]
    idle: bool = False

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Bands:
    """What a model needs to know of the images it was trained on.

    Attributes:
        names: C band names, e.g. ``("red", "green", "blue")``.
        dtype: NumPy dtype name of the pixels: ``uint8``, ``uint16`` or ``float32``.
        mean: C means in the file's units; subtracted on the device.
        std: C standard deviations in the file's units; divided by on the device. Never zero.
        per_image: whether each image is normalised by itself before it reaches a model; see
            `terrazzo.data.image_standardization`. Then mean is 0 and std 1, and what reaches the
            model is float32.
    """

    names: tuple[str, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    per_image: bool = False

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.mean) == len(self.std) > 0
        assert all(value > 0 for value in self.std)
        assert not self.per_image or (set(self.mean), set(self.std)) == ({0}, {1})

    @property
    def seen_dtype(self) -> str:
        """NumPy dtype name of images as the model is shown them, where no value is missing."""
        return "float32" if self.per_image else self.dtype

    @classmethod
    def normalized_per_image(cls, names: tuple[str, ...], dtype: str) -> Bands:
        """Return bands of images that are normalised each by itself."""
        zeros, ones = (0.0,) * len(names), (1.0,) * len(names)
        return cls(names, dtype, zeros, ones, per_image=True)

    def __len__(self) -> int:
        return len(self.names)
