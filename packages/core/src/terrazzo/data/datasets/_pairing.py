"""Which image and which mask belong together: by name, with every name that has no other said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from terrazzo.base.errors import DataError
from terrazzo.data.datasets import _pair_hints as pair_hints
from terrazzo.data.datasets._faults import refuse
from terrazzo.io import images
from terrazzo.io.folders import walk_files

_SHOWN = 100  # names a kind of fault; beyond it a message helps nobody
_LISTED = 8  # folders whose other files are counted in one message
_NO_MASK, _NO_IMAGE = "images without a mask", "masks without an image"

Faults = dict[str, list[str]]
"""Names that do not pair up, by what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One image: its name, its image file and its mask file."""

    name: str
    image: Path
    mask: Path


def pair_up(
    image_folder: Path,
    mask_folder: Path,
    *,
    suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
    image_ending: str = "",
    mask_ending: str = "",
    only: Collection[str] | None = None,
    root: Path | None = None,
    has_endings: bool = False,
) -> tuple[Pair, ...]:
    """Match the files of two folders, sub-folders included, by relative path without suffix.

    Args:
        image_folder: holds the images.
        mask_folder: holds the masks; may be the same folder if there is a `mask_ending`.
        suffixes: of images and masks, lower case; other files are passed over.
        image_ending: what an image's stem has beyond its name, e.g. ``_sat``.
        mask_ending: what a mask's stem has beyond its name, e.g. ``_mask``.
        only: names to look at. None: all there are.
        root: of the data set, which links to folders must not leave. None: each folder.
        has_endings: whether the endings are options of the format, so that a message may name them.

    Returns:
        Pairs sorted by name; a name is a relative path such as ``berlin/000019``.

    Raises:
        DataError: SEG-D013 a folder is missing; SEG-D014 missing images, missing masks, masks
            without an image and names that occur twice, all in one message; SEG-D042 a link leads
            out of the data set; SEG-D142 nothing tells images and masks of one folder apart.
    """
    if has_endings and image_folder == mask_folder and not image_ending + mask_ending:
        raise _one_folder(image_folder, suffixes, root)
    pairs, faults = _match(
        image_folder,
        mask_folder,
        suffixes=suffixes,
        image_ending=image_ending,
        mask_ending=mask_ending,
        only=only,
        root=root,
    )
    if any(faults.values()):
        others = _Others.of((image_folder, mask_folder), suffixes, root)
        _refuse(faults, image_folder, f"in {mask_folder}", others, has_endings=has_endings)
    return pairs


def _one_folder(folder: Path, suffixes: Sequence[str], root: Path | None) -> DataError:
    names = list(files_by_name(folder, suffixes, root=root))
    longer = [name for name in names if _begins_with_another(name, names)]
    hint = pair_hints.of_endings(names, longer)
    return DataError(
        "SEG-D142",
        "images and masks lie in one folder, and nothing tells them apart",
        file=folder,
        observed=list_names("files", names),
        allowed="an ending of the masks' names, or of the images'",
        next_step=hint
        or 'set data.options.mask_suffix, such as "_mask", or move the masks to a '
        "folder of their own and name it in data.options.masks",
    )


def _begins_with_another(name: str, names: Sequence[str]) -> bool:
    known = set(names)
    return any(name[:cut] in known for cut in range(1, len(name)))


@dataclass(frozen=True, slots=True)
class _Others:
    """Files in folders of images and masks that are passed over: in words, and their names."""

    told: str = ""
    hint: str = ""

    @staticmethod
    def of(folders: Iterable[Path], suffixes: Sequence[str], root: Path | None) -> _Others:
        """Look at each folder once."""
        told, names = [], []
        for folder in dict.fromkeys(folders):
            text = passed_over(folder, suffixes, root)
            told += [f"in {folder} {text}"] if text else []
            names += [name for _, several in walk_files(folder, root) for name in several]
        return _Others("; ".join(told), pair_hints.of_unread(names, suffixes))


def pair_up_below(
    root: Path,
    folders: Mapping[str, tuple[Path, Path]],
    *,
    suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
    image_ending: str = "",
    mask_ending: str = "",
    has_endings: bool = False,
) -> tuple[Pair, ...]:
    """Match the files of several pairs of folders; the names begin with the keys and a slash.

    Args:
        root: of the data set, for the message.
        folders: image folder and mask folder by what comes before the names; may be empty.
        suffixes: of images and masks, lower case; other files are passed over.
        image_ending: as for `pair_up`.
        mask_ending: likewise.
        has_endings: likewise.

    Returns:
        Pairs sorted by name.

    Raises:
        DataError: as `pair_up`, the faults of all folders in one message.
    """
    pairs: list[Pair] = []
    faults: Faults = {}
    for prefix, (image_folder, mask_folder) in folders.items():
        lead = f"{prefix}/" if prefix else ""
        found, wrong = _match(
            image_folder,
            mask_folder,
            suffixes=suffixes,
            image_ending=image_ending,
            mask_ending=mask_ending,
            root=root,
        )
        pairs += [Pair(lead + pair.name, pair.image, pair.mask) for pair in found]
        for title, names in wrong.items():
            faults.setdefault(title, []).extend(lead + name for name in names)
    if any(faults.values()):
        places = [each for both in folders.values() for each in both]
        others = _Others.of(places[:_LISTED], suffixes, root)
        _refuse(faults, root, "in the folder beside it", others, has_endings=has_endings)
    return tuple(sorted(pairs, key=lambda pair: pair.name))


def _match(
    image_folder: Path,
    mask_folder: Path,
    *,
    suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
    image_ending: str = "",
    mask_ending: str = "",
    only: Collection[str] | None = None,
    root: Path | None = None,
) -> tuple[tuple[Pair, ...], Faults]:
    """Return the pairs there are, and the names that do not pair up by what is wrong with them."""
    shared = image_folder == mask_folder
    image_files = files_by_name(
        image_folder,
        suffixes,
        image_ending,
        not_ending=mask_ending if shared else "",
        root=root,
    )
    mask_files = files_by_name(
        mask_folder,
        suffixes,
        mask_ending,
        not_ending=image_ending if shared else "",
        root=root,
    )
    if only is not None:
        image_files = {name: image_files[name] for name in image_files.keys() & only}
        mask_files = {name: mask_files[name] for name in mask_files.keys() & only}
    faults = {
        "names without an image": sorted(set(only or ()) - image_files.keys()),
        _NO_MASK: sorted(image_files.keys() - mask_files.keys()),
        _NO_IMAGE: sorted(mask_files.keys() - image_files.keys() - set(only or ())),
        "images of one name": _twice(image_folder, image_files),
        "masks of one name": _twice(mask_folder, mask_files),
    }
    names = sorted(image_files.keys() & mask_files.keys())
    return tuple(Pair(n, image_files[n][0], mask_files[n][0]) for n in names), faults


def _refuse(
    faults: Faults, file: Path, where: str, others: _Others, *, has_endings: bool = False
) -> None:
    told = [list_names(title, names) for title, names in faults.items() if names]
    ending = pair_hints.of_endings(faults.get(_NO_MASK, ()), faults.get(_NO_IMAGE, ()))
    hints = (ending if has_endings else "", others.hint, _case_hint(faults))
    error = DataError(
        "SEG-D014",
        "images and masks do not pair up",
        file=file,
        observed="; ".join([*told, others.told] if others.told else told),
        allowed=f"one mask for every image, by name, {where}",
        next_step=pair_hints.joined("add, rename or remove the files named", hints),
    )
    refuse(error)


def passed_over(folder: Path, suffixes: Sequence[str], root: Path | None = None) -> str:
    """Return ``4 files are passed over: 3 .bmp, 1 .txt`` of a folder; empty where there are none.

    Args:
        folder: where to look.
        suffixes: lower case; files with these are not passed over.
        root: as for `files_by_name`.
    """
    kinds = Counter(
        PurePosixPath(name).suffix.lower() or "no suffix"
        for lead, names in walk_files(folder, root)
        for name in names
        if not name.lower().endswith(tuple(suffixes)) and not (folder / lead / name).is_dir()
    )
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{kinds.total()} files are passed over: {told}" if kinds else ""


def list_names(title: str, names: Sequence[str]) -> str:
    """Return ``3 images without a mask: a, b, c``; beyond 100 names, how many more."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {title}: {', '.join(names[:_SHOWN])}{more}"


def files_by_name(
    folder: Path,
    suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
    ending: str = "",
    *,
    not_ending: str = "",
    root: Path | None = None,
) -> dict[str, list[Path]]:
    """Return the files below a folder by relative path without suffix and `ending`.

    Args:
        folder: where to look, sub-folders included; see `walk_files`.
        suffixes: lower case.
        ending: what a stem must end with; it is no part of the name.
        not_ending: what a stem must not end with. Empty: anything will do.
        root: of the data set, which links to folders must not leave. None: `folder`.

    Raises:
        DataError: SEG-D013 the folder is missing; SEG-D042 a link leads out of the data set.
    """
    if not folder.is_dir():
        raise DataError(
            "SEG-D013",
            "not a folder" if folder.exists() else "no such folder",
            file=folder,
            next_step="check data.root, and data.options where the format has folder settings",
        )
    found: dict[str, list[Path]] = {}
    top = str(folder)
    for lead, names in walk_files(folder, root):
        for file in names:
            stem, _, suffix = file.rpartition(".")
            if f".{suffix.lower()}" not in suffixes:
                continue
            if stem.endswith(ending) and not (not_ending and stem.endswith(not_ending)):
                name = stem.removesuffix(ending)
                path = Path(top, lead, file)
                found.setdefault(f"{lead}/{name}" if lead else name, []).append(path)
    return dict(sorted(found.items()))


def _twice(folder: Path, files: dict[str, list[Path]]) -> list[str]:
    return [
        " and ".join(path.relative_to(folder).as_posix() for path in paths)
        for _, paths in sorted(files.items())
        if len(paths) > 1
    ]


def _case_hint(faults: Faults) -> str:
    lonely = faults.get(_NO_MASK, []) + faults.get(_NO_IMAGE, [])
    if len({name.casefold() for name in lonely}) < len(lonely):
        return "some names differ in upper and lower case only"
    return ""
