"""Which images and masks of two places belong together by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from terrazzo.workflows.init import folder_words
from terrazzo.workflows.init.layout import Tree


@dataclass(frozen=True)
class Match:
    """Images and masks that belong together if two places are read so.

    Attributes:
        images: folder of the images below the root, as the option ``images``.
        masks: likewise.
        image_ending: what stems of images have beyond the name.
        mask_ending: likewise.
        pairs: by name, the image file and the mask file below the root.
        lonely_images: names without a mask.
        lonely_masks: names without an image.
    """

    images: str
    masks: str
    image_ending: str
    mask_ending: str
    pairs: Mapping[str, tuple[str, str]]
    lonely_images: tuple[str, ...]
    lonely_masks: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is without a partner."""
        return not (self.lonely_images or self.lonely_masks)

    @property
    def worth(self) -> tuple[int, int, int]:
        """What a better match has more of."""
        lonely = len(self.lonely_images) + len(self.lonely_masks)
        return len(self.pairs), -lonely, -len(self.image_ending) - len(self.mask_ending)


def match(tree: Tree, images: str, masks: str) -> Match | None:
    """Match the files of two places by name and by what usually ends names; None: no pair.

    Args:
        tree: the files.
        images: a folder, or with ``{split}`` or ``{folder}`` in its path.
        masks: likewise; may be the same folder.
    """
    image_files, mask_files = dict(_files(tree, images)), dict(_files(tree, masks))
    if images == masks:
        return _within(images, image_files)
    found = [
        made
        for endings in _endings(image_files, mask_files)
        if (made := _made(images, masks, endings, image_files, mask_files)) is not None
    ]
    return max(found, key=lambda each: each.worth, default=None)


def _files(tree: Tree, place: str) -> Iterator[tuple[str, str]]:
    """Yield the names of the files in a place, without suffix, and their paths below the root."""
    pattern = re.escape(place).replace(r"\{split\}", "(?P<lead>train|val|test)")
    pattern = pattern.replace(r"\{folder\}/", "(?:(?P<lead>.+)/)?").replace(
        r"\{folder\}", "(?P<lead>.+)"
    )
    inside = "(?P<rest>.*)" if place in ("", ".") else r"(?:/(?P<rest>.*))?"
    fits = re.compile(("" if place in ("", ".") else pattern) + inside)
    for lead, names in tree.pictures.items():
        found = fits.fullmatch(lead)
        if found is not None:
            before = [part for part in (found.groupdict().get("lead"), found["rest"]) if part]
            for name in names:
                stem = PurePosixPath(name).stem
                yield "/".join((*before, stem)), f"{lead}/{name}" if lead else name


def _endings(
    image_files: Mapping[str, str], mask_files: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    yield "", ""
    own = folder_words.common_ending(tuple(mask_files), frozenset(image_files))
    for mask_ending in dict.fromkeys((own, *folder_words.ENDINGS_OF_MASKS, "")):
        for image_ending in ("", *folder_words.ENDINGS_OF_IMAGES):
            yield image_ending, mask_ending


def _made(
    images: str,
    masks: str,
    endings: tuple[str, str],
    image_files: Mapping[str, str],
    mask_files: Mapping[str, str],
) -> Match | None:
    image_ending, mask_ending = endings
    named_images = _stripped(image_files, image_ending)
    named_masks = _stripped(mask_files, mask_ending)
    both = named_images.keys() & named_masks.keys()
    if not both:
        return None
    return Match(
        images or ".",
        masks or ".",
        image_ending,
        mask_ending,
        {name: (named_images[name], named_masks[name]) for name in sorted(both)},
        tuple(sorted(named_images.keys() - both)),
        tuple(sorted(named_masks.keys() - both)),
    )


def _stripped(files: Mapping[str, str], ending: str) -> dict[str, str]:
    return {
        name.removesuffix(ending): path for name, path in files.items() if name.endswith(ending)
    }


def _within(place: str, files: Mapping[str, str]) -> Match | None:
    """Match files of one folder, where masks have an ending that images lack."""
    own = folder_words.common_ending(
        [name for name in files if any(name[:cut] in files for cut in range(1, len(name)))],
        frozenset(files),
    )
    found = []
    for ending in filter(None, dict.fromkeys((own, *folder_words.ENDINGS_OF_MASKS))):
        masks = {name: path for name, path in files.items() if name.endswith(ending)}
        images = {name: path for name, path in files.items() if name not in masks}
        made = _made(place, place, ("", ending), images, masks)
        if made is not None:
            found.append(made)
    return max(found, key=lambda each: each.worth, default=None)
