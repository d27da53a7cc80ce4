"""Images beside masks of the same names, in folders of any common name."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._split_folders import split_of
from terrazzo.workflows.init import folder_words, mask_kinds
from terrazzo.workflows.init.layout import Layout, Tree
from terrazzo.workflows.init.name_matching import Match, match

_SHOWN = 3  # names in one message
_MOST_CANDIDATES = 64
_FEW = 30  # images below which more of them are for val and test


def detect(tree: Tree) -> Layout | None:
    """Recognise folders of images and masks.

    Raises:
        DataError: SEG-D121, images and masks are there and do not pair up.
    """
    matches = [m for m in (match(tree, *each) for each in _candidates(tree)) if m is not None]
    matches = [each for each in matches if mask_kinds.are_masks(tree, each)]
    best = max(matches, key=lambda each: each.worth, default=None)
    if best is None:
        _refuse_unpaired(tree)
        return None
    return layout_of(tree, best)


def asked_for(tree: Tree, options: dict[str, Any]) -> Layout:
    """Return the layout where the person names the folders.

    Raises:
        DataError: SEG-D121, they do not pair up.
    """
    images, masks = options.get("images", "images"), options.get("masks", "masks")
    found = match(tree, images, masks)
    if found is None:
        raise _unpaired(tree, images, masks)
    return layout_of(tree, found)


def _candidates(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield pairs of places that may hold images and their masks, the likeliest first."""
    bases: dict[str, list[str]] = {"images": [], "masks": [], "instances": [], "": []}
    for lead in tree.pictures:
        role, base = folder_words.base_of(lead) or ("", lead)
        if base not in bases[role]:
            bases[role].append(base)
    images, masks = bases["images"], bases["masks"]
    plain = [lead for lead in bases[""] if lead]
    made: dict[tuple[str, str], None] = {}
    for of_images, of_masks in _pairs_of_lists(images, masks, plain):
        if len(of_images) > 1 or len(of_masks) > 1:
            made.update(dict.fromkeys(_templates(of_images, of_masks)))
        for image in of_images:
            for mask in of_masks:
                made[image, mask] = None
                deeper = [lead for lead in tree.pictures if lead.startswith(f"{mask}/")]
                made.update(((image, lead), None) for lead in deeper[:_SHOWN])
    for lead in (*images, *plain, ""):
        if lead in tree.pictures:
            made[lead, lead] = None  # masks by an ending
    yield from list(made)[:_MOST_CANDIDATES]


def _pairs_of_lists(
    images: list[str], masks: list[str], plain: list[str]
) -> Iterator[tuple[list[str], list[str]]]:
    if images and masks:
        yield images, masks
    elif masks:
        yield plain or [""], masks
    elif images:
        yield images, plain
    else:
        yield plain, plain


def _templates(images: list[str], masks: list[str]) -> Iterator[tuple[str, str]]:
    """Yield one pair of paths with ``{split}`` or ``{folder}`` that stands for all of them."""
    by_split = [_split_template(bases) for bases in (images, masks)]
    if by_split[0] is not None and by_split[1] is not None:
        yield by_split[0], by_split[1]
    ends = [{base.rpartition("/")[2] for base in bases} for bases in (images, masks)]
    for image_end in ends[0]:
        for mask_end in ends[1]:
            yield f"{{folder}}/{image_end}", f"{{folder}}/{mask_end}"


def _split_template(bases: list[str]) -> str | None:
    found: dict[str, set[str]] = {}
    for base in bases:
        made = folder_words.with_split(base)
        if made is not None:
            found.setdefault(made[0], set()).add(made[1])
    return next((each for each, splits in found.items() if len(splits) == 3), None)


def _refuse_unpaired(tree: Tree) -> None:
    """Say what does not fit where there are a folder of images and one of masks by their names."""
    bases = [folder_words.base_of(lead) for lead in tree.pictures]
    images = next((base for role, base in filter(None, bases) if role == "images"), None)
    masks = next((base for role, base in filter(None, bases) if role == "masks"), None)
    if images is not None and masks is not None:
        raise _unpaired(tree, images, masks)


def _unpaired(tree: Tree, images: str, masks: str) -> DataError:
    shown = [
        ", ".join(
            f"{lead}/{name}".removeprefix(f"{place}/")
            for lead, names in tree.pictures.items()
            if lead == place or lead.startswith(f"{place}/")
            for name in names[:_SHOWN]
        )
        or "nothing"
        for place in (images, masks)
    ]
    return DataError(
        "SEG-D121",
        "images and masks do not pair up by their names",
        file=tree.root,
        observed=f"in {images}: {shown[0]}; in {masks}: {shown[1]}",
        allowed="one mask for every image, of the same name or with an ending such as _mask, in "
        "the same sub-folder",
        next_step="which mask belongs to which image? Rename the masks, or name folders and "
        "endings by --set data.options.images=…, masks=…, image_suffix=…, mask_suffix=…",
    )


def layout_of(tree: Tree, found: Match) -> Layout:
    """Return how a match is read: folders, endings, kind of masks, splits.

    Raises:
        DataError: SEG-D121, some have no partner.
    """
    options: dict[str, Any] = {"images": found.images, "masks": found.masks}
    reasons = {
        "format": f"{len(found.pairs)} images with a mask of the same name",
        "images": f"e.g. {next(iter(found.pairs.values()))[0]}",
        "masks": f"e.g. {next(iter(found.pairs.values()))[1]}",
    }
    for key, ending in (("image_suffix", found.image_ending), ("mask_suffix", found.mask_ending)):
        if ending:
            options[key], reasons[key] = ending, "what the names have beyond those of the others"
    kind = mask_kinds.of(tree, found)
    if kind.values == "colour":
        options["mask_kind"], reasons["mask_kind"] = "colour", kind.reason
    unsure: list[str] = []
    _divide(tree, found, options, reasons, unsure)
    if kind.is_lossy:
        return _of_lossy(tree, found, options, reasons, unsure)
    return Layout(tree.root, "folder", options, reasons, tuple(unsure))


def _divide(
    tree: Tree, found: Match, options: dict[str, Any], reasons: dict[str, str], unsure: list[str]
) -> None:
    """Decide what the splits are."""
    lists = split_lists(tree, found)
    if not lists:
        _refuse_lonely(tree, found)
    if "{split}" in found.images + found.masks:
        return
    if lists:
        options["lists"] = lists
        reasons["lists"] = "text files that name the images of each split"
        _tell_unlisted(tree, found, lists, reasons)
    named = set(lists) or {split_of(name) for name in found.pairs} - {None}
    if len(named) == 3:
        reasons.setdefault("split", "folders named after the splits are taken for them")
        return
    options["split"] = draw_of(found.pairs, named, reasons, unsure)


def draw_of(
    names: Collection[str],
    named: Collection[str | None],
    reasons: dict[str, str],
    unsure: list[str],
) -> dict[str, Any]:
    """Return the draw of what nothing divides, and add why and what to ask.

    Args:
        names: of the images.
        named: the splits that folders or lists name; fewer than three.
        reasons: by option; gets that of ``split``.
        unsure: questions; gets more of them.
    """
    shares = (0.6, 0.2, 0.2) if len(names) < _FEW else (0.8, 0.1, 0.1)
    split: dict[str, Any] = dict(zip(("train", "val", "test"), shares, strict=True))
    if len(named) == 2 and "train" in named:
        kept = "val" if "val" in named else "test"
        other = "test" if kept == "val" else "val"
        split = {"train": 0.9, "val": 0.1, "test": 0.1, kept: 0}
        reasons["split"] = f"{kept} is as it is named (share 0), {other} is drawn from train"
        unsure.append(
            f"is there a {other} split elsewhere? None was found: a tenth of train is taken for it"
        )
    else:
        reasons["split"] = "nothing says how to divide: drawn, the same on every machine"
    _group(names, split, reasons, unsure)
    return split


def _group(
    names: Collection[str], split: dict[str, Any], reasons: dict[str, str], unsure: list[str]
) -> None:
    """Keep the images of one sub-folder together, where there are sub-folders."""
    folders = {name.rpartition("/")[0] for name in names}
    groups = {each for each in folders if each and not (split_of(f"{each}/") and "/" not in each)}
    if len(groups) < 2 or "" in folders or len(groups) == len(names):
        return
    if len(groups) < 3:
        unsure.append(
            f"are the {len(groups)} sub-folders ({', '.join(sorted(groups))}) patients, tiles or "
            "films? They are too few to be kept apart: images of one may be in train and in test"
        )
        return
    split["group"] = "^(.+)/"
    reasons["split"] += (
        f"; each of the {len(groups)} sub-folders stays in one split (one patient, tile or film)"
    )


def split_lists(tree: Tree, found: Match) -> dict[str, str]:
    """Return the text files that name the images of splits, where they name nothing else."""
    words: dict[str, tuple[str, ...]] = {
        "train": ("train", "trainval", "training"),
        "val": ("val", "valid", "validation"),
        "test": ("test", "testing"),
    }
    texts = {
        f"{lead}/{name}" if lead else name: name.removesuffix(".txt").lower()
        for lead, names in tree.files.items()
        for name in names
        if name.endswith(".txt")
    }
    lists: dict[str, str] = {}
    for split, several in words.items():
        for word in several:
            path = next((path for path, stem in sorted(texts.items()) if stem == word), None)
            if path is not None and split not in lists and _names_pairs(tree, path, found):
                lists[split] = path
    return lists if "train" in lists and len(lists) > 1 else {}


def _names_pairs(tree: Tree, path: str, found: Match) -> bool:
    names = _listed(tree, path)
    return bool(names) and found.pairs.keys() >= names


def _listed(tree: Tree, path: str) -> set[str]:
    """Return the names of images in a text file; none where it cannot be read."""
    try:
        lines = (tree.root / path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    return {line.strip().rpartition(".")[0] or line.strip() for line in lines if line.strip()}


def _tell_unlisted(
    tree: Tree, found: Match, lists: dict[str, str], reasons: dict[str, str]
) -> None:
    listed = {name for path in lists.values() for name in _listed(tree, path)}
    left = sorted({*found.pairs, *found.lonely_images} - listed)
    if left:
        shown = ", ".join(left[:_SHOWN]) + (", …" if len(left) > _SHOWN else "")
        images = f"{len(left)} image{'s' if len(left) > 1 else ''}"
        reasons["left_out"] = f"{images} that no list names: {shown}"


def _refuse_lonely(tree: Tree, found: Match) -> None:
    if found.is_whole:
        return
    told = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        for what, names in (
            ("images without a mask", found.lonely_images),
            ("masks without an image", found.lonely_masks),
        )
        if names
    ]
    raise DataError(
        "SEG-D121",
        "some images or masks have no partner",
        file=tree.root,
        observed=f"{len(found.pairs)} pairs in {found.images} and {found.masks}; "
        + "; ".join(told),
        allowed="one mask for every image",
        next_step="are these without labels? Move them out of the folder; else add or rename what "
        "is missing",
    )


def _of_lossy(
    tree: Tree,
    found: Match,
    options: dict[str, Any],
    reasons: dict[str, str],
    unsure: list[str],
) -> Layout:
    """Return how binary masks with blurred edges are read: above the middle, or not."""
    own: dict[str, Any] = {"images": found.images, "masks": found.masks}
    if "{" in found.images + found.masks or found.image_ending or found.mask_ending:
        raise DataError(
            "SEG-D124",
            "the masks are JPEG, which changes class values along every edge",
            file=tree.root / found.masks,
            allowed="PNG or GeoTIFF",
            next_step="can the masks be exported again as PNG? Converting does not bring values "
            "back",
        )
    own |= {"parts": ["foreground"], "threshold": 127, "lossy_masks": True}
    own["split"] = options.get("split", {"train": 0.8, "val": 0.1, "test": 0.1})
    reasons |= {
        "parts": "one class, where the mask is bright",
        "threshold": "the middle of 0 and 255: the masks have blurred edges",
        "lossy_masks": "the masks are JPEG, or have blurred edges",
    }
    reasons.setdefault("split", "drawn, the same on every machine")
    unsure.append(
        "can the masks be exported again as PNG without antialiasing? Those here are blurred "
        "along their edges: the class is where they are above 127"
    )
    names = {0: "background", 1: "foreground"}
    return Layout(tree.root, "part_masks", own, reasons, tuple(unsure), names)
