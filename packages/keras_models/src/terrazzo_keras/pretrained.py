"""Encoders of `keras.applications` with their ImageNet weights, for images of any bands.

Nothing is fetched unless ``pretrained`` asks for it, and then through Keras's own loader, which
knows the hash of each file. Weights are read into a copy of the encoder for three bands, as they
were published, and taken over from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError, TerrazzoError
from terrazzo.data import input_statistics
from terrazzo.data.input_statistics import IMAGENET, InputStatistics
from terrazzo.data.sample import Bands
from terrazzo.models import pretrained_errors


class TrainedOn(NamedTuple):
    """How `keras.applications` prepares 8-bit images for an encoder."""

    is_bgr: bool
    """Whether blue is the first band; ours is red."""
    unit: float
    """Grey levels that are one."""
    mean: tuple[float, float, float]
    """Of red, green and blue, in grey levels."""

    @property
    def statistics(self) -> InputStatistics:
        """What an encoder expects once `adopt` has put weights into it.

        The deviation is that of ImageNet, whatever the unit: kernels for values 58 times as large
        would be as much smaller, beside those of the layers that are new.
        """
        return InputStatistics(self.mean, IMAGENET.std)


FROM_MINUS_ONE_TO_ONE = TrainedOn(is_bgr=False, unit=127.5, mean=(127.5, 127.5, 127.5))
CENTRED_BGR = TrainedOn(is_bgr=True, unit=1, mean=(123.68, 116.779, 103.939))

_SUFFIXES = (".h5", ".hdf5")
_SIZE = (224, 224)
"""Weights do not depend on it; all encoders take it without a warning."""


def adopt(
    encoder: keras.Model,
    application: Callable[..., keras.Model],
    option: str,
    num_bands: int,
    trained_on: TrainedOn,
) -> tuple[str, ...]:
    """Copy weights into `encoder`, all or none.

    Args:
        encoder: made by `application` without its top; changed in place.
        application: a function of `keras.applications`.
        option: ``"encoder"``, or the path of a file that Keras wrote for `application` without its
            top and with three bands.
        num_bands: C of the images. Where it is not 3, the first convolution is inflated.
        trained_on: what images the published weights expect.

    Returns:
        What was taken and what had to be changed, a sentence each.

    Raises:
        ConfigError: SEG-X020, neither a word nor a path that exists.
        ResourceError: SEG-R020, the file is neither here nor within reach.
        CheckpointError: SEG-S001 it is not the published one; SEG-C006 it cannot be read; SEG-C020
            it is of another network.
    """
    if option == "encoder":
        origin = f"keras.applications.{application.__name__}, ImageNet"
        published = _fetched(application)
    else:
        path = pretrained_errors.path_of(option, ("encoder",))
        origin = str(path)
        published = _read(application, path)
    arrays = [ops.convert_to_numpy(weight) for weight in published.weights]
    first = next(number for number, array in enumerate(arrays) if array.ndim == 4)
    arrays[first] = fitted(arrays[first], trained_on)
    remarks = [
        f"weights of the encoder: {origin}",
        "first convolution: fitted to red, green and blue in units of their standard deviation "
        "over ImageNet",
    ]
    if num_bands != 3:
        arrays[first] = inflate(arrays[first], num_bands)
        remarks.append(
            f"first convolution: 3 bands in the weights, {num_bands} here; each band has the mean "
            f"of the 3 kernels times 3/{num_bands}"
        )
    encoder.set_weights(arrays)
    return tuple(remarks)


def fitted(kernels_HWIO: NDArray[Any], trained_on: TrainedOn) -> NDArray[Any]:
    """Return kernels for our normalised images, which answer as the given ones do for theirs.

    Otherwise the statistics of an encoder that stays frozen would belong to other values, for a
    ResNet 58 times as large. The means stay those of `trained_on`; `fit` makes them a run's own.
    """
    if trained_on.is_bgr:
        kernels_HWIO = kernels_HWIO[:, :, ::-1]
    std_I = np.array(IMAGENET.std, np.float32)
    return kernels_HWIO * (std_I / trained_on.unit)[:, None]


def fit(network: keras.Model, expected: InputStatistics, bands: Bands) -> tuple[str, ...]:
    """Let an encoder see the same in images that are normalised otherwise; return remarks.

    Its first convolution is scaled. What is constant goes to its bias, or else into the moving
    mean of the batch norm that follows.

    Args:
        network: whose first convolution is that of the encoder; changed in place.
        expected: what its weights were trained on.
        bands: of the run.
    """
    if unfit := input_statistics.remark_unfit(expected, bands):
        return (unfit,)
    layers = network.layers
    number, first = next(
        (n, layer) for n, layer in enumerate(layers) if isinstance(layer, keras.layers.Conv2D)
    )
    pads_before = any(isinstance(each, keras.layers.ZeroPadding2D) for each in layers[:number])
    padded = first.padding == "same" or pads_before
    fitted = input_statistics.fitted(
        ops.convert_to_numpy(first.kernel),
        expected,
        bands,
        padding=max(first.kernel_size) // 2 if padded else 0,
    )
    if fitted is None:
        return ()
    first.kernel.assign(fitted.kernels)
    if first.use_bias:
        first.bias.assign_add(fitted.offset_O)
    else:
        norm = next(e for e in layers[number:] if isinstance(e, keras.layers.BatchNormalization))
        norm.moving_mean.assign_sub(fitted.offset_O)
    return (fitted.remark,)


def inflate(kernels_HWIO: NDArray[Any], num_bands: int) -> NDArray[Any]:
    """Return H×W×num_bands×O kernels that answer an image of equal bands as the given ones do.

    Each band gets the mean over the I kernels, times I / num_bands.
    """
    num_inputs = kernels_HWIO.shape[2]
    mean_HW1O = kernels_HWIO.mean(axis=2, keepdims=True)
    return np.repeat(mean_HW1O, num_bands, axis=2) * np.float32(num_inputs / num_bands)


def _made(application: Callable[..., keras.Model], weights: str) -> keras.Model:
    return application(include_top=False, weights=weights, input_shape=(*_SIZE, 3))


def _fetched(application: Callable[..., keras.Model]) -> keras.Model:
    try:
        return _made(application, "imagenet")
    except Exception as error:  # Keras raises just that where it finds no network
        explained = _explained(error, application.__name__)
        if explained is None:
            raise
        raise explained from error


def _explained(error: Exception, name: str) -> TerrazzoError | None:
    told = re.search(r"https?://\S+?(?=:? |:?$)", str(error))
    source = told[0] if told else f"the weights of keras.applications.{name} without its top"
    if isinstance(error, ValueError) and "hash" in str(error):
        return pretrained_errors.not_as_published(source, error)
    if told or isinstance(error, OSError):
        file = Path(source).name
        place = f"models/{file} in the folder KERAS_HOME (~/.keras where that is not set)"
        return pretrained_errors.cannot_fetch(file, source, place, error)
    return None


def _read(application: Callable[..., keras.Model], path: Path) -> keras.Model:
    if path.suffix not in _SUFFIXES:
        raise CheckpointError(
            "SEG-C006",
            "the weights cannot be read",
            file=path,
            observed=f"a file named *{path.suffix}" if path.is_file() else "a folder",
            allowed="a file of weights that Keras wrote: " + ", ".join(_SUFFIXES),
            next_step=f"give the weights that keras.applications has for {application.__name__}",
        )
    try:
        return _made(application, str(path))
    except OSError as error:
        raise pretrained_errors.cannot_read(path, error) from error
    except (ValueError, KeyError) as error:
        raise pretrained_errors.does_not_fit(
            path,
            pretrained_errors.first_line(error),
            f"the weights of keras.applications.{application.__name__} without its top, 3 bands",
        ) from error
