"""What a person can do about images and masks that do not pair up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

UNREAD_KINDS = frozenset(
    [
        ".avif",
        ".czi",
        ".dcm",
        ".exr",
        ".gz",
        ".h5",
        ".hdf5",
        ".hdr",
        ".heic",
        ".heif",
        ".jxl",
        ".lif",
        ".mat",
        ".nd2",
        ".nii",
        ".npy",
        ".npz",
        ".pbm",
        ".pgm",
        ".pnm",
        ".ppm",
        ".psd",
        ".svg",
        ".svs",
        ".tga",
        ".zarr",
    ]
)
"""Suffixes of files that may hold images and are not read as such, lower case."""


def of_unread(names: Iterable[str], suffixes: Sequence[str]) -> str:
    """Return ``.npy files are not read: …`` where there are such files; else nothing.

    Args:
        names: of files.
        suffixes: of those that are read.
    """
    found = {PurePosixPath(name).suffix.lower() for name in names}
    kinds = sorted((found & UNREAD_KINDS) - set(suffixes))
    if not kinds:
        return ""
    return (
        f"{', '.join(kinds)} files are not read: save the arrays or images in them as PNG or TIFF"
    )


def of_endings(bare_images: Sequence[str], bare_masks: Sequence[str]) -> str:
    """Return the option that pairs names such as ``001`` and ``001_mask``; else nothing.

    Args:
        bare_images: names of images without a mask.
        bare_masks: names of masks without an image.
    """
    ways = {"mask_suffix": (bare_images, bare_masks), "image_suffix": (bare_masks, bare_images)}
    for option, (shorter, longer) in ways.items():
        ending, example = _common_ending(shorter, longer)
        if ending:
            return f'data.options.{option} = "{ending}" pairs {example} with {example}{ending}'
    return ""


def _common_ending(shorter: Sequence[str], longer: Sequence[str]) -> tuple[str, str]:
    """Return what most of `longer` have beyond one of `shorter`, and that one; else nothing."""
    known = set(shorter)
    counts: Counter[str] = Counter()
    example: dict[str, str] = {}
    for name in longer:
        folder = name.rfind("/") + 1
        stems = (name[:cut] for cut in range(len(name) - 1, folder, -1))
        stem = next((each for each in stems if each in known), "")
        if stem:
            counts[name[len(stem) :]] += 1
            example.setdefault(name[len(stem) :], stem)
    ending, number = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return (ending, example[ending]) if 2 * number > len(longer) else ("", "")


def joined(next_step: str, hints: Iterable[str]) -> str:
    """Return a next step and the hints that are not empty."""
    return "; ".join([next_step, *(hint for hint in hints if hint)])
