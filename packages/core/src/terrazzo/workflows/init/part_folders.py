"""One folder of binary masks for each class: masks/cell/a.png, masks/nucleus/a.png."""

from __future__ import annotations

import itertools
from pathlib import PurePosixPath
from typing import Any

from terrazzo.workflows.init import folder_words
from terrazzo.workflows.init.layout import Layout, Tree

_BACKGROUND = frozenset(["bg", "background", "back", "none", "rest"])


def detect(tree: Tree) -> Layout | None:
    """Recognise folders that each hold a mask of every image, below one folder of masks."""
    of_images: dict[str, list[str]] = {}
    of_masks: dict[str, list[str]] = {}
    for lead in tree.pictures:
        role, base = folder_words.base_of(lead) or ("", "")
        if role == "images":
            of_images.setdefault(base, []).append(lead)
        if role == "masks":
            of_masks.setdefault(base, []).append(lead)
    if len(of_images) != 1 or len(of_masks) != 1:
        return None
    (images, image_leads), (masks, mask_leads) = *of_images.items(), *of_masks.items()
    names = _names(tree, images, image_leads, without_split=True)
    parts = sorted({lead.removeprefix(f"{masks}/").partition("/")[0] for lead in mask_leads})
    if len(parts) < 2 or masks in mask_leads or not names:
        return None
    for part in parts:
        own = [lead for lead in mask_leads if f"{lead}/".startswith(f"{masks}/{part}/")]
        if _names(tree, f"{masks}/{part}", own) != names:
            return None
    return _layout(tree, images, image_leads, masks, parts)


def _names(tree: Tree, base: str, leads: list[str], *, without_split: bool = False) -> set[str]:
    names = set()
    for lead in leads:
        inside = lead.removeprefix(base).strip("/")
        if without_split and inside.partition("/")[0] in ("train", "test"):
            inside = inside.partition("/")[2]
        for name in tree.pictures[lead]:
            stem = PurePosixPath(name).stem
            names.add(f"{inside}/{stem}" if inside else stem)
    return names


def _layout(
    tree: Tree, images: str, image_leads: list[str], masks: str, parts: list[str]
) -> Layout:
    before, after = _around(parts)
    words = [part[len(before) : len(part) - len(after)] for part in parts]
    used = [word for word in words if word.lower() not in _BACKGROUND]
    splits = {lead.removeprefix(images).strip("/").partition("/")[0] for lead in image_leads}
    has_test = {"train", "test"} <= splits
    options: dict[str, Any] = {
        "images": f"{images}/{{split}}" if has_test else images,
        "masks": f"{masks}/{before}{{part}}{after}",
        "parts": used,
        "split": {"train": 0.9, "val": 0.1, "test": 0}
        if has_test
        else {"train": 0.8, "val": 0.1, "test": 0.1},
    }
    reasons = {
        "format": f"each image has a mask in {len(parts)} folders: {', '.join(parts)}",
        "images": "folder of the images",
        "masks": "folder of the masks of one class, {part}",
        "parts": "the classes; the background is where none is",
        "split": "test is its folder, val is drawn from train"
        if has_test
        else "nothing says how to divide: drawn, the same on every machine",
    }
    unsure: tuple[str, ...] = ()
    if len(used) > 1:
        unsure = (
            f"do the masks overlap? Where they do, {used[0]} wins over {used[1]}, and so on: --set "
            "data.options.precedence=[…] names another order",
        )
    names = {0: "background"} | dict(enumerate(used, start=1))
    return Layout(tree.root, "part_masks", options, reasons, unsure, names)


def _around(parts: list[str]) -> tuple[str, str]:
    """Return what all names begin with and end with, at the border of a word."""
    before, after = _common(parts), _common([part[::-1] for part in parts])[::-1]
    while before and before[-1].isalnum():
        before = before[:-1]
    while after and after[0].isalnum():
        after = after[1:]
    if min(map(len, parts)) <= len(before) + len(after):
        return "", ""
    return before, after


def _common(words: list[str]) -> str:
    """Return the letters that all words begin with."""
    letters = itertools.takewhile(lambda several: len(set(several)) == 1, zip(*words, strict=False))
    return "".join(several[0] for several in letters)
