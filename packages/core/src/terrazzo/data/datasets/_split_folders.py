"""Sub-folders named after the splits: the division of a data set that its owner has made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._faults import refuse
from terrazzo.data.datasets._pairing import list_names
from terrazzo.data.datasets._split_draw import SplitName

_WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_of(name: str) -> SplitName | None:
    """Return the split whose folder an image lies in, by the beginning of its name; None: none."""
    folder, slash, _ = name.partition("/")
    return _WORDS.get(folder.lower()) if slash else None


def are_splits(names: Sequence[str], folder: Path) -> bool:
    """Tell whether the images lie in folders of splits.

    Args:
        names: paths of the images below `folder`.
        folder: of all images, for messages.

    Raises:
        DataError: SEG-D014, images lie beside those folders.
    """
    beside = [name for name in names if split_of(name) is None]
    if len({split_of(name) for name in names} - {None}) < 2:
        return False
    if beside:
        error = DataError(
            "SEG-D014",
            "some images lie in folders of splits, and others do not",
            file=folder,
            observed=list_names("images beside them", beside),
            allowed="every image in a folder named train, val or test",
            next_step="move the images, or draw all of them anew with data.options.split = "
            "{ train = 0.8, val = 0.1, test = 0.1 }",
        )
        refuse(error)
    return True


def note(names: Sequence[str]) -> str:
    """Return one line that says what was taken for the splits."""
    counts = Counter(name.partition("/")[0] for name in names)
    told = ", ".join(f"{folder} ({count} images)" for folder, count in sorted(counts.items()))
    return f"the sub-folders are the splits: {told}; nothing is drawn"
