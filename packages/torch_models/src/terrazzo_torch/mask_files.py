"""Folders of Segment Anything models, looked at before a framework is imported."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from terrazzo.base.disk_errors import unreadable
from terrazzo.base.errors import CheckpointError
from terrazzo.base.json_files import read_json

KINDS = ("sam", "sam2", "sam2_video")
"""Of ``model_type`` in ``config.json``."""
CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""How images are prepared: one of the two, depending on what wrote the folder."""
_PIECE = 1 << 20


def require(folder: Path) -> str:
    """Return what kind of model a folder holds.

    Raises:
        CheckpointError: SEG-C012, it is none of `KINDS` as ``save_pretrained`` writes it.
        ResourceError: SEG-R030, it cannot be read.
    """
    config = folder / CONFIG
    try:
        if not config.is_file():
            raise _refused(folder, f"no {CONFIG}")
        kind = read_json(config).get("model_type")
        if kind not in KINDS:
            raise _refused(folder, f"model_type {kind!r} in {CONFIG}")
        if not any((folder / name).is_file() for name in PROCESSORS):
            raise _refused(folder, f"no {PROCESSORS[0]}")
        if not list(folder.glob("*.safetensors")):
            raise _refused(folder, "no file *.safetensors")
    except OSError as error:
        raise unreadable(folder, error) from error
    return str(kind)


def digest(folder: Path) -> str:
    """Return the SHA-256 of all files that masks depend on, in hexadecimal.

    Raises:
        CheckpointError: as `require`.
        ResourceError: SEG-R030, one of them cannot be read.
    """
    require(folder)
    sha = hashlib.sha256()
    for path in _files(folder):
        sha.update(path.name.encode())
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    sha.update(piece)
        except OSError as error:
            raise unreadable(path, error) from error
    return sha.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    names = (CONFIG, *PROCESSORS)
    yield from (folder / name for name in names if (folder / name).is_file())
    yield from sorted(folder.glob("*.safetensors"))


def _refused(folder: Path, observed: str) -> CheckpointError:
    return CheckpointError(
        "SEG-C012",
        "the folder holds no Segment Anything model",
        file=folder,
        observed=observed,
        allowed="SAM or SAM 2 as transformers writes it: config.json, preprocessor_config.json and "
        "*.safetensors",
        next_step="name such a folder with --sam; code and pickled weights are never loaded",
    )
