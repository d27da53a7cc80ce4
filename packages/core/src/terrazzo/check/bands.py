"""Images unlike the others: scales, brightness, values that were clipped, nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.check.file_statistics import ImageFacts
from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey

_FEWEST = 5  # images behind a statement on the usual scale
_MANY = 20  # images behind a statement on the usual brightness
_SCALE = 20.0  # times the usual range: another unit, not another scene
_GAP = 4.0  # times between neighbours in the order of largest values: two groups, not a spread
_FACTOR = 6.0  # least ratio of two groups: 10 or 12 bits beside 16 make 64 or 16
_ALIKE = 2.0  # how far the ratios of means, deviations and largest values may differ
_DEVIATIONS = 8.0  # of the median absolute deviation, scaled to a normal distribution
_CLIPPED = 0.8  # share of values at 255 that no exposure explains


@dataclass(frozen=True, slots=True)
class BandRow:
    """One band in the report: over all images, in the files' units."""

    name: str
    mean: float
    std: float
    low: float
    high: float


def table(survey: Survey) -> tuple[BandRow, ...]:
    """Return one row a band, from the grids of all images, by the pixels that count in each."""
    readable = [p.image for p in survey.scanned_images if p.image is not None]
    source = next(iter(survey.sources.values()), None)
    if not readable or source is None or len(source.band_names) != len(readable[0].mean):
        return ()
    alike = [image for image in readable if len(image.mean) == len(readable[0].mean)]
    alike = [image for image in alike if image.valid > 0]
    if not alike:
        return ()
    weights_N = np.array([image.valid * image.rows * image.columns for image in alike])
    weights_N /= weights_N.sum()
    mean_NC, std_NC = np.array([i.mean for i in alike]), np.array([i.std for i in alike])
    mean_C = weights_N @ mean_NC
    std_C = np.sqrt(weights_N @ (std_NC**2 + (mean_NC - mean_C) ** 2))
    low_C, high_C = np.min([i.low for i in alike], axis=0), np.max([i.high for i in alike], axis=0)
    values_C4 = np.stack([mean_C, std_C, low_C, high_C], axis=1).tolist()
    return tuple(
        BandRow(name, *values) for name, values in zip(source.band_names, values_C4, strict=True)
    )


def find(survey: Survey) -> Iterator[Finding]:
    """Yield images that are blank, clipped, or far from what is usual in this data set."""
    readable = [(p, p.image) for p in survey.scanned_images if p.image is not None]
    for scanned, image in readable:
        if _is_clipped(image):
            yield _clipped(scanned, image)
        elif _is_blank(image):
            yield _blank(scanned, image)
    for alike in _by_kind(survey.scanned_images):
        yield from _two_scales(alike)
        yield from _outliers(survey, alike)


def find_two_scales(images: Iterable[ScannedImage]) -> Iterator[Finding]:
    """Yield the images whose values are a multiple of the others' (SEG-D045), as `find` does."""
    for alike in _by_kind(images):
        yield from _two_scales(alike)


_Seen = tuple[ScannedImage, ImageFacts]


def _by_kind(images: Iterable[ScannedImage]) -> Iterator[list[_Seen]]:
    """Yield the usable images of each type and number of bands, where there are enough."""
    by_kind: dict[tuple[str, int], list[_Seen]] = {}
    for scanned in images:
        image = scanned.image
        if image is not None and not _is_clipped(image) and not _is_blank(image):
            by_kind.setdefault((image.dtype, len(image.mean)), []).append((scanned, image))
    yield from (alike for alike in by_kind.values() if len(alike) >= _FEWEST)


def _is_clipped(image: ImageFacts) -> bool:
    return image.dtype != "float32" and max(image.high) == 255 and image.at_high > _CLIPPED


def _is_blank(image: ImageFacts) -> bool:
    return image.valid == 0 or image.low == image.high


def _blank(scanned: ScannedImage, image: ImageFacts) -> Finding:
    nothing = image.valid == 0
    return Finding(
        Level.WARNING,
        "SEG-D038",
        "the image holds nothing",
        scanned.image_file,
        ("no pixel with data" if nothing else f"every band has one value: {_list(image.high)}")
        + scanned.place,
        "an image",
        "look at the file; leave it out if it is meant to be empty",
    )


def _clipped(scanned: ScannedImage, image: ImageFacts) -> Finding:
    return Finding(
        Level.WARNING,
        "SEG-D019",
        "the image looks clipped from 16 bits to 8",
        scanned.image_file,
        f"{image.at_high:.0%} of the values are 255, and none is larger ({image.dtype})"
        f"{scanned.place}",
        "the whole range of the sensor",
        "convert the original again with a scale (e.g. `gdal_translate -scale`), or keep 16 bits",
    )


def _two_scales(alike: list[_Seen]) -> Iterator[Finding]:
    """Yield the images whose values are a multiple of the others', as 12 bits beside 16 bits are.

    A factor moves means, deviations and largest values alike; bright scenes beside dark ones do
    not, and fill the gap between.
    """
    values_N3 = np.array([(max(i.high), max(i.mean), max(i.std)) for _, i in alike])
    order_N = np.argsort(values_N3[:, 0], kind="stable")
    sorted_N3 = np.maximum(values_N3[order_N], 1e-12)
    steps_N = sorted_N3[1:, 0] / sorted_N3[:-1, 0]
    cut = int(steps_N.argmax()) + 1
    ratio_3 = np.median(sorted_N3[cut:], axis=0) / np.median(sorted_N3[:cut], axis=0)
    if (
        steps_N[cut - 1] < _GAP
        or ratio_3.min() < _FACTOR
        or np.ptp(np.log(ratio_3)) > np.log(_ALIKE)
    ):
        return
    low, high = order_N[:cut].tolist(), order_N[cut:].tolist()
    fewer, more = (high, low) if len(high) <= len(low) else (low, high)
    times = "times as large" if fewer is high else "times as small"
    for row in sorted(fewer):
        scanned, image = alike[row]
        yield Finding(
            Level.WARNING,
            "SEG-D045",
            "the images have two scales, as 12-bit and 16-bit values side by side have",
            scanned.image_file,
            f"values about {ratio_3[0]:.0f} {times} as in {len(more)} other images; largest "
            f"{max(image.high):g}",
            "one scale in all images",
            "divide or multiply the images of one kind, e.g. 16-bit values by 16",
        )


def _outliers(survey: Survey, alike: list[_Seen]) -> Iterator[Finding]:
    names = next(iter(survey.sources.values())).band_names
    high_NC = np.array([image.high for _, image in alike])
    mean_NC = np.array([image.mean for _, image in alike])
    std_NC = np.array([image.std for _, image in alike])
    usual_high_C = np.median(np.abs(high_NC), axis=0)
    ratio_NC = np.abs(high_NC) / np.maximum(usual_high_C, 1e-12)
    other_scale_N = ((ratio_NC > _SCALE) | (ratio_NC < 1 / _SCALE)).all(axis=1)
    away_NC = np.maximum(_deviations(mean_NC), _deviations(std_NC))
    for row, (scanned, image) in enumerate(alike):
        if other_scale_N[row]:
            yield Finding(
                Level.WARNING,
                "SEG-D021",
                "the values of the image have another scale than the others'",
                scanned.image_file,
                f"largest values {_list(image.high)}{scanned.place}",
                f"around {_list(tuple(usual_high_C.tolist()))}, as in the other images",
                "bring the image to the units of the others, e.g. 0…1 to 0…255",
            )
        elif len(alike) >= _MANY and (away_NC[row] > _DEVIATIONS).any():
            band = int(away_NC[row].argmax())
            yield Finding(
                Level.WARNING,
                "SEG-D021",
                "the image is far brighter, darker or flatter than the others",
                scanned.image_file,
                f"band {names[band] if band < len(names) else band}: mean {image.mean[band]:.4g}, "
                f"standard deviation {image.std[band]:.4g}{scanned.place}",
                f"medians {np.median(mean_NC[:, band]):.4g} and {np.median(std_NC[:, band]):.4g}",
                "look at the image: a wrong band order, a failed exposure or another sensor",
            )


def _deviations(values_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the median in robust standard deviations, column by column."""
    off_NC = np.abs(values_NC - np.median(values_NC, axis=0))
    spread_C = 1.4826 * np.median(off_NC, axis=0)
    # Frames of one camera may hardly differ; a twentieth of the value is no outlier.
    least_C = 0.05 * np.abs(np.median(values_NC, axis=0))
    distances: NDArray[np.float64] = off_NC / np.maximum(np.maximum(spread_C, least_C), 1e-12)
    return distances


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
