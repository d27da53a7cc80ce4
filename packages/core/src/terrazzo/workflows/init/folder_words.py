"""Words by which people call folders of images, of masks and of splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Role = Literal["images", "masks", "instances"]

_IMAGES = frozenset(
    re.findall(
        r"\w+",
        "image images img imgs im ims jpegimages jpgimages pngimages photo photos picture "
        "pictures frame frames input inputs raw rgb original originals sat scan scans "
        "leftimg8bit imagestr imagests imgdir ",
    )
)
_MASKS = frozenset(
    re.findall(
        r"\w+",
        "mask masks label labels lbl lbls annotation annotations annot annots ann anns "
        "anndir gt gts groundtruth truth seg segs segmentation segmentations "
        "segmentationclass segmentationclassraw segmentationclassaug target targets "
        "trimap trimaps gtfine gtcoarse labelstr labelsts matte mattes ",
    )
)
_INSTANCES = frozenset(["segmentationobject", "instance", "instances", "instancemasks"])
_ENDS = {"masks": ("annot", "mask", "masks", "label", "labels"), "images": ("images", "imgs")}
_WORDS = re.compile(r"[a-z]+[0-9]+[a-z]+|[a-z]+")
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])|(?<![a-z])(train|val|test)(?=annot)")

_SPLIT_WORD = re.compile(
    r"(?<![a-z])(training|train|validation|valid|val|testing|test)(?![a-z])", re.I
)

ENDINGS_OF_MASKS = (
    *("_mask", "_masks", "-mask", "_gt", "_GT", "_L", "_label", "_labels", "_seg"),
    *("_segmentation", "_annotation", "_trimap", "_lbl", "_manual1", "_Mask", "_matte"),
    *("_gtFine_labelIds", "_groundtruth", ".mask", "_m"),
)
ENDINGS_OF_IMAGES = (
    "_sat",
    "_image",
    "_img",
    "_rgb",
    "_leftImg8bit",
    "_im",
    "_0000",
    "_photo",
    ".ome",
)


def role_of(component: str) -> Role | None:
    """Return what one folder of a path is for, by its name."""
    words = _WORDS.findall(component.lower())
    joined = "".join(words)
    if joined in _INSTANCES or _INSTANCES.intersection(words):
        return "instances"
    if joined in _MASKS or _MASKS.intersection(words) or joined.endswith(_ENDS["masks"]):
        return "masks"
    if joined in _IMAGES or _IMAGES.intersection(words) or joined.endswith(_ENDS["images"]):
        return "images"
    return None


def base_of(lead: str) -> tuple[Role, str] | None:
    """Return what a folder is for, and the part of its path that ends with the word for it.

    The last word counts, with those of its kind right before it: ``masks/cell_masks`` is ``masks``.
    """
    parts = lead.split("/")
    roles = [role_of(part) for part in parts]
    last = max((number for number, role in enumerate(roles) if role is not None), default=None)
    if last is None:
        return None
    role = roles[last]
    while last > 0 and roles[last - 1] == role:
        last -= 1
    assert role is not None
    return role, "/".join(parts[: last + 1])


def with_split(lead: str) -> tuple[str, str] | None:
    """Return a path with ``{split}`` in the place of a split's name, and that name, if any."""
    found = _SPLIT.search(lead)
    if found is None:
        return None
    return f"{lead[: found.start()]}{{split}}{lead[found.end() :]}", found[0]


def split_words(lead: str) -> tuple[str, str, str] | None:
    """Return a path with ``{split}`` in the place of any word for a split, the split, the word."""
    found = list(_SPLIT_WORD.finditer(lead))
    if not found:
        return None
    first, word = found[0], found[0][0]
    template = (
        lead.replace(word, "{split}")
        if len(found) > 1
        else (f"{lead[: first.start()]}{{split}}{lead[first.end() :]}")
    )
    split = next(split for split in ("train", "val", "test") if word.lower().startswith(split))
    return template, split, word


def common_ending(longer: Sequence[str], shorter: frozenset[str]) -> str:
    """Return what most of `longer` have beyond one of `shorter`; empty: nothing in common."""
    counts: dict[str, int] = {}
    for stem in longer:
        for cut in range(len(stem) - 1, 0, -1):
            if stem[:cut] in shorter:
                counts[stem[cut:]] = counts.get(stem[cut:], 0) + 1
                break
    best = max(counts, key=lambda each: counts[each], default="")
    return best if best and 2 * counts[best] > len(longer) else ""
