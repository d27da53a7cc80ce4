"""Oxford-IIIT Pet: 37 breeds of cats and dogs with a trimap each, in many sizes.

    images/Abyssinian_100.jpg
    annotations/trimaps/Abyssinian_100.png       1 pet, 2 background, 3 not classified (the border)
    annotations/trainval.txt, annotations/test.txt

The official lists say which images are used; val is drawn from trainval. The breeds in the lists
are not used. Some files of the official package are PNG although their names end in .jpg, and some
of these have an alpha band: the content decides, and alpha is left out. The label map
``oxford_pet_3`` makes the border a class.
Source: Parkhi, Vedaldi, Zisserman, Jawahar, "Cats and Dogs", CVPR 2012;
robots.ox.ac.uk/~vgg/data/pets.
"""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import DataError
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets._paired_files import RGB, PairedFiles
from terrazzo.data.datasets._pairing import Pair, pair_up
from terrazzo.data.datasets._split_draw import Draw
from terrazzo.io import images

LABELS = "oxford_pet_2"


class Options(Frozen):
    """What is left out, and what val is."""

    skip: tuple[str, ...] = ()
    """Names to leave out: some photographs of the official package are said to be no RGB JPEG."""
    split: Draw = Draw(train=0.9, val=0.1, test=0)
    """See `Draw`; each image by itself unless it has a group."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""


def open_split(root: Path, split: str, options: Options) -> PairedFiles:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: see `pair_up` and `_split_draw.divide`; SEG-D013 a list cannot be read;
            SEG-D015 a
            image is in both lists.
    """
    annotations = root / "annotations"
    listed = {
        "train": _read_list(annotations / "trainval.txt"),
        "test": _read_list(annotations / "test.txt"),
    }
    _split_draw.refuse_leaks(annotations, listed.items())

    def part(name: str) -> tuple[Pair, ...]:
        names = [each for each in listed[name] if each not in options.skip]
        return pair_up(root / "images", annotations / "trimaps", only=names, root=root)

    chosen = _split_draw.divide(
        split,
        options.split,
        options.split_file,
        training=lambda: part("train"),
        test=lambda: part("test"),
    )
    notes = []
    if options.skip:
        notes.append(f"oxford_pet: left out by name: {', '.join(options.skip)}")
    if with_alpha := [pair.name for pair in chosen.pairs if _has_alpha(pair.image)]:
        notes.append(
            f"oxford_pet: alpha is left out of {len(with_alpha)} of {len(chosen.pairs)} images: "
            f"{', '.join(with_alpha[:3])}{' …' if len(with_alpha) > 3 else ''}"
        )
    return PairedFiles(chosen.pairs, RGB, notes=(*notes, *chosen.notes), drops_alpha=True)


def _has_alpha(path: Path) -> bool:
    """Whether a header says so; what cannot be read is told of when it is read."""
    try:
        return images.has_alpha(path)
    except DataError:
        return False


def _read_list(path: Path) -> tuple[str, ...]:
    """Return the first word of each line; the others are class, species and breed."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "SEG-D013",
            "cannot read the list of a split",
            file=path,
            observed=error.strerror if isinstance(error, OSError) else error,
            next_step="data.root must be the folder that holds images/ and annotations/",
        ) from None
    return tuple(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))
