"""Flip bits of a checkpoint or a model folder, one at a time: each must be found when it is loaded.

    python tools/sweeps/flip_bits.py --kind checkpoint --points 1000 --seed 0
    python tools/sweeps/flip_bits.py --kind model --points 1000 --seed 0

A point is a bit drawn from all bits of all files, or (every tenth) a file cut short or made longer
by a byte. Ends with 1 where one was not found.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from terrazzo.base.errors import TerrazzoError
from terrazzo.runs import checkpoint, saved_model
from terrazzo.testing.scenes import make_model

_STEP = 7


def make_checkpoint(folder: Path) -> tuple[Path, Callable[[], object]]:
    """Write a checkpoint; return its folder and what reads it."""
    draw = np.random.default_rng(0)
    kernel = draw.normal(size=(16, 16)).astype(np.float32)
    state = {
        "weights/kernel": kernel,
        "optimizer/kernel": kernel,
        "optimizer/step": np.array(_STEP),
    }
    record = {"scores": [[_STEP, 0.5]], "losses": [1.5, 0.25], "log_bytes": 1234}
    written = checkpoint.write(folder, _STEP, state, record)
    return written.folder, lambda: checkpoint.read(folder, _STEP).state()


def make_model_folder(folder: Path) -> tuple[Path, Callable[[], object]]:
    """Write a model folder; return it and what loads it."""
    made = make_model(folder / "model")
    return made, lambda: saved_model.load(made)


KINDS = {"checkpoint": make_checkpoint, "model": make_model_folder}


def damaged(content: bytes, draw: random.Random, point: int) -> bytes:
    """Return a content with one flipped bit, or in every tenth point of another length."""
    if point % 20 == 10:
        return content[: draw.randrange(len(content))]
    if point % 20 == 0:
        return content + bytes([draw.randrange(256)])
    return flipped(content, draw.randrange(8 * len(content)))


def flipped(content: bytes, bit: int) -> bytes:
    """Return a content with one flipped bit."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def is_found(path: Path, content: bytes, load: Callable[[], object]) -> bool:
    """Tell whether loading refuses this content of a file; the file is put right again."""
    good = path.read_bytes()
    path.write_bytes(content)
    try:
        load()
    except TerrazzoError:
        return True
    finally:
        path.write_bytes(good)
    return False


def points(folder: Path, count: int, seed: int) -> Iterator[tuple[Path, bytes]]:
    """Yield files with the contents they are to get; a file is drawn by its length."""
    draw = random.Random(seed)  # noqa: S311 - a draw that can be repeated
    files = sorted(folder.iterdir())
    lengths = [path.stat().st_size for path in files]
    for point in range(count):
        path = draw.choices(files, lengths)[0]
        yield path, damaged(path.read_bytes(), draw, point)


def main() -> int:
    """Make a folder, damage it, count what is found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, load = KINDS[given.kind](Path(place))
        load()  # or everything would be found
        found = 0
        for path, content in points(folder, given.points, given.seed):
            if is_found(path, content, load):
                found += 1
            else:
                print(f"not found: {path.name}")
        load()
    print(f"{given.kind}: {found}/{given.points} found")
    return 0 if found == given.points else 1


if __name__ == "__main__":
    sys.exit(main())
