"""The division of a data set by a draw: for sets without official splits, or without a val split.

A draw is made once: a run keeps its names in ``splits.json`` and goes back to them, since a new
draw over a folder that has grown would move test images into training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Fraction, Frozen, resolve_path
from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.json_files import json_object
from terrazzo.base.recipe import expression_with_group
from terrazzo.data.datasets._faults import refuse
from terrazzo.data.datasets._pairing import Pair, list_names
from terrazzo.data.datasets._stratified_draw import stratified

SplitName = Literal["train", "val", "test"]

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

_SHOWN = 3  # images named in one line

Find = Callable[[], tuple[Pair, ...]]
"""Lists the images of an official part when they are asked for."""


class Division(NamedTuple):
    """One split of a draw.

    Attributes:
        pairs: of the split, sorted by name.
        notes: what an earlier draw leaves out, for the person who runs it.
    """

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()


class Draw(Frozen):
    """The share of each split, counted in groups, and what is held together.

    Where a data set has an official test part, ``test = 0`` keeps it as the test split and draws
    train and val from the rest. A share above 0 pools all parts and draws the test split as well;
    its scores then compare with nobody's.
    """

    train: Fraction
    val: Fraction
    test: Fraction
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    group: str | None = None
    """Regular expression, searched in each name: images whose first group is equal stay in one
    split. Use it for images of one scene, patient or flight; ``(.*)`` is each image by itself.
    None: the format's own."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Cut the groups into so many parts of equal size; `fold` says which one is the test. The
    others are divided by the shares of train and val. A study does all of them, see its `folds`."""
    fold: Annotated[int, Field(ge=0)] = 0
    """From 0."""
    stratify: bool = False
    """Divide the groups so that each split has its share of the pixels of every class, and none
    that is in enough groups is missing from one. Reads every label once."""

    @pydantic.model_validator(mode="after")
    def _fold_of_several(self) -> Draw:
        if self.fold >= (self.folds or 1):
            msg = f"fold = {self.fold} is none of {self.folds or 'no'} folds, which begin with 0"
            raise ValueError(msg)
        if self.folds is not None and self.train + self.val == 0:
            msg = "folds need a share of train"
            raise ValueError(msg)
        return self

    @pydantic.model_validator(mode="after")
    def _shares_of_a_whole(self) -> Draw:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            msg = f"train, val and test add up to {total:g}, not 1"
            raise ValueError(msg)
        return self

    @pydantic.field_validator("group")
    @classmethod
    def _has_a_group(cls, group: str | None) -> str | None:
        return group if group is None else expression_with_group(group)


def divide(
    split: str,
    rule: Draw,
    split_file: str | None,
    *,
    training: Find,
    test: Find | None = None,
    group: str | None = None,
) -> Division:
    """Return the pairs of one split, sorted by name, and what an earlier draw leaves out.

    Args:
        split: ``train``, ``val`` or ``test``.
        rule: the shares.
        split_file: an earlier draw as `write` left it; takes the place of a new one.
        training: lists the images that may be trained on, or all where there are no parts.
        test: lists the official test part.
        group: what is held together unless the rule says otherwise; see `Draw.group`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: as `training` and `test`; SEG-D014 an image of the earlier draw is gone, or two
            images have one name; as `read`.
    """
    if test is not None and rule.test == 0:
        if split == "test" and rule.folds is None:
            return Division(test())
        pool = training()
    else:
        pool = training() + (test() if test is not None else ())
    found = {pair.name: pair for pair in pool}
    if len(found) < len(pool):
        refuse(_twice(pool))
    notes: tuple[str, ...] = ()
    if split_file is None:
        chosen = draw(found, rule, group=group)[split]
    else:
        kept = read(resolve_path(split_file, where="data.options.split_file"))
        chosen = kept[split]
        notes = _left_out(sorted(found.keys() - frozenset().union(*kept.values())), split_file)
        if chosen - found.keys():
            gone = DataError(
                "SEG-D014",
                "images of the earlier draw are gone",
                file=split_file,
                observed=list_names("names without an image", sorted(chosen - found.keys())),
                next_step="put them back, or draw anew in a new run",
            )
            refuse(gone)
    return Division(tuple(found[name] for name in sorted(chosen & found.keys())), notes)


def _left_out(names: Sequence[str], split_file: str) -> tuple[str, ...]:
    """Return a line on images that have come since an earlier draw, if there are any."""
    if not names:
        return ()
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    what = "1 image is" if len(names) == 1 else f"{len(names)} images are"
    return (
        f"{what} in no split of the draw in {split_file} and left out ({shown}); start a new run "
        "to use what has been added",
    )


def draw_stratified(
    pixels: Mapping[str, NDArray[np.int64]], rule: Draw, *, group: str | None = None
) -> dict[str, frozenset[str]]:
    """Divide names as `draw` does, into as many groups each, by the pixels of their classes.

    Args:
        pixels: K of each image, by its name.
        rule: see `draw`.
        group: see `draw`.

    Raises:
        ConfigError: as `draw`.
    """
    group_of = {name: name_of_group(name, rule.group or group) for name in pixels}
    groups = sorted(set(group_of.values()))
    number = {name: position for position, name in enumerate(groups)}
    pixels_GK = np.zeros((len(groups), len(next(iter(pixels.values())))), np.int64)
    for name, pixels_K in pixels.items():
        pixels_GK[number[group_of[name]]] += pixels_K
    shares = {"train": rule.train, "val": rule.val, "test": rule.test}
    split_of: dict[str, str] = {}
    if rule.folds is not None:
        _require_enough(groups, rule.folds)
        ends = [(fold + 1) * len(groups) // rule.folds for fold in range(rule.folds)]
        sizes = np.diff([0, *ends]).tolist()
        fold_G = stratified(pixels_GK, sizes, rule.seed)
        split_of = {groups[g]: "test" for g in np.flatnonzero(fold_G == rule.fold)}
        shares = {"val": rule.val, "train": rule.train}
    left = [g for g, name in enumerate(groups) if name not in split_of]
    whole = sum(shares.values())
    of_left = _sizes(len(left), {split: share / whole for split, share in shares.items()})
    part_G = stratified(pixels_GK[left], list(of_left.values()), rule.seed)
    names_of_parts = list(of_left)
    split_of |= {groups[g]: names_of_parts[part] for g, part in zip(left, part_G, strict=True)}
    return {
        split: frozenset(name for name in group_of if split_of[group_of[name]] == split)
        for split in SPLITS
    }


def draw(
    names: Iterable[str], rule: Draw, *, group: str | None = None
) -> dict[str, frozenset[str]]:
    """Divide names by the shares of `rule`: every name lands in exactly one split.

    The draw depends on the set of groups, the shares and the seed, and on no order of files. A
    split with a share above 0 gets at least one group, as long as there are enough.

    Args:
        names: of the images.
        rule: shares, seed, and what is held together.
        group: see `divide`. None: each image by itself.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
    """
    group_of = {name: name_of_group(name, rule.group or group) for name in names}
    groups = sorted(set(group_of.values()))
    shuffled = np.random.Generator(np.random.Philox(rule.seed)).permutation(groups).tolist()
    shares = {"train": rule.train, "val": rule.val, "test": rule.test}
    split_of: dict[str, str] = {}
    if rule.folds is not None:
        shuffled, in_test = _fold_last(shuffled, rule.folds, rule.fold)
        split_of.update(dict.fromkeys(shuffled[len(shuffled) - in_test :], "test"))
        shuffled = shuffled[: len(shuffled) - in_test]
        both = rule.train + rule.val
        shares = {"val": rule.val / both, "train": rule.train / both}
    start = 0
    for split, size in _sizes(len(shuffled), shares).items():
        split_of.update(dict.fromkeys(shuffled[start : start + size], split))
        start += size
    return {
        split: frozenset(name for name in group_of if split_of[group_of[name]] == split)
        for split in SPLITS
    }


def _fold_last(groups: list[str], folds: int, fold: int) -> tuple[list[str], int]:
    """Return the groups with those of one fold at the end, and how many these are.

    The folds follow each other in a circle, so that each fold has validation groups of its own.

    Raises:
        ConfigError: SEG-X183, there are fewer groups than folds.
    """
    _require_enough(groups, folds)
    end = (fold + 1) * len(groups) // folds
    return groups[end:] + groups[:end], end - fold * len(groups) // folds


def _require_enough(groups: list[str], folds: int) -> None:
    if len(groups) < folds:
        raise ConfigError(
            "SEG-X183",
            "there are fewer groups of images than folds",
            observed=f"{len(groups)} groups, data.options.split.folds = {folds}",
            allowed=f"at most {len(groups)} folds",
            next_step="lower the number of folds, or change data.options.split.group",
        )


def write(path: Path, names: Mapping[str, Iterable[str]]) -> None:
    """Write the names of each split for `read`."""
    text = json.dumps({split: sorted(names[split]) for split in SPLITS}, indent=0)
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, frozenset[str]]:
    """Read the names of each split.

    Raises:
        DataError: SEG-D013 the file cannot be read, or does not hold names by split; SEG-D015 a
            name is in two splits.
    """
    try:
        found = _Names.validate_python(json_object(path.read_bytes()), strict=True)
        names = {split: _each_once(split, several) for split, several in found.items()}
    except (OSError, ValueError) as error:
        raise DataError(
            "SEG-D013",
            "cannot read the draw",
            file=path,
            observed=_told(error),
            allowed='{"train": [names], "val": [names], "test": [names]}',
            next_step="where it is a run's own, bring the file back from a copy; else name the "
            "splits.json of a run in data.options.split_file",
        ) from None
    refuse_leaks(path, names.items())
    return {split: names.get(split, frozenset()) for split in SPLITS}


def _each_once(split: str, names: Sequence[str]) -> frozenset[str]:
    found = frozenset(names)
    if len(found) < len(names):
        msg = f"{split} holds a name twice"
        raise ValueError(msg)
    return found


def _told(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, pydantic.ValidationError):
        problem = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return str(error)


def refuse_leaks(path: Path, names: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Refuse a name that is in two splits; `names` are those of each split.

    Raises:
        DataError: SEG-D015.
    """
    owner: dict[str, str] = {}
    leaks: list[str] = []
    for split, several in names:
        again = [name for name in sorted(several) if owner.setdefault(name, split) != split]
        leaks += [f"{name} ({owner[name]} and {split})" for name in again]
    if leaks:
        error = DataError(
            "SEG-D015",
            "the same image is in two splits",
            file=path,
            observed=list_names("names", leaks),
            allowed="each name in one split",
            next_step="remove the names from one of them; a score on images that were trained "
            "on says nothing",
        )
        refuse(error)


_Names = pydantic.TypeAdapter(dict[SplitName, list[str]])


def _sizes(total: int, shares: dict[str, float]) -> dict[str, int]:
    """Round by largest remainder, then give empty splits one from the largest."""
    exact = {split: total * share for split, share in shares.items() if share > 0}
    sizes = {split: int(size) for split, size in exact.items()}
    by_remainder = sorted(exact, key=lambda split: sizes[split] - exact[split])
    for split in by_remainder[: total - sum(sizes.values())]:
        sizes[split] += 1
    for split in sizes:
        largest = max(sizes, key=lambda other: sizes[other])
        if sizes[split] == 0 and sizes[largest] > 1:
            sizes[split], sizes[largest] = 1, sizes[largest] - 1
    return sizes


def name_of_group(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None or match[1] is None:
        raise ConfigError(
            "SEG-X011",
            "data.options.split.group does not fit a name",
            observed=f"{pattern!r} in {name!r}",
            next_step="write the expression so that its first group is found in every name",
        )
    return match[1]


def _twice(pool: Iterable[Pair]) -> DataError:
    files: dict[str, list[str]] = {}
    for pair in pool:
        files.setdefault(pair.name, []).append(str(pair.image))
    twice = [" and ".join(several) for several in files.values() if len(several) > 1]
    return DataError(
        "SEG-D014",
        "two images have one name",
        observed=list_names("images of one name", sorted(twice)),
        next_step="rename one of them, or keep the official parts with split.test = 0",
    )
