"""``MANIFEST.json``: sizes and SHA-256 sums of the files of a folder, written last, verified first.

Checkpoints and model folders have one of the same form. It ends with a sum of its own text, so that
a flipped bit in it is found as one in any other file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from terrazzo.base.atomic_write import flush_file, flush_folder
from terrazzo.base.disk_errors import unreadable
from terrazzo.base.errors import CheckpointError
from terrazzo.base.json_files import json_object

NAME = "MANIFEST.json"
FORMAT = 1
_OWN_SUM = "manifest_sha256"
_KEYS = {"format", "step", "files"}


class Kind(NamedTuple):
    """What a folder holds, for messages.

    Attributes:
        name: such as "the checkpoint".
        next_step: what helps where it is damaged.
    """

    name: str
    next_step: str


def write(folder: Path, step: int) -> None:
    """List all files of `folder` with their sums, and flush the list and their names to the disk.

    What lies in folders below it is not listed.

    Args:
        folder: complete but for the manifest.
        step: optimiser steps behind what is in it.

    Raises:
        OSError: the disk is full or refuses.
    """
    paths = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name != NAME)
    files = {path.name: _fingerprint(path) for path in paths}
    path = folder / NAME
    path.write_bytes(_text({"format": FORMAT, "step": step, "files": files}))
    flush_file(path)
    flush_folder(folder)


class Manifest:
    """The manifest of a folder, read and found to be whole.

    Args:
        folder: that it lies in.
        kind: what that folder holds.
        files: by name, size and sum.
    """

    def __init__(self, folder: Path, kind: Kind, files: Mapping[str, Mapping[str, Any]]) -> None:
        self._folder, self._kind, self._files = folder, kind, files

    def verify(self, *names: str) -> None:
        """Read files and compare them with the manifest; all it names where none is given.

        Raises:
            CheckpointError: SEG-C006, a file is missing, not listed, or not what was written.
            ResourceError: SEG-R030, it is there and cannot be read.
        """
        for name in names or self._files:
            path = self._folder / name
            try:
                self._compare(name, _fingerprint(path))
            except PermissionError as error:
                raise unreadable(path, error) from error
            except OSError as error:
                found = error.strerror or error
                raise damaged(self._kind, path, found, self._files.get(name)) from error

    def verified(self, name: str, content: bytes) -> bytes:
        """Return what was read of a file, where it is what was written; see `verify`."""
        digest = hashlib.sha256(content).hexdigest()
        self._compare(name, {"bytes": len(content), "sha256": digest})
        return content

    def sha256(self, name: str) -> str | None:
        """Return the sum that a file must have; None where it is not listed."""
        listed = self._files.get(name)
        return None if listed is None else str(listed["sha256"])

    @property
    def digest(self) -> str:
        """A sum of the names and sums of all files."""
        return hashlib.sha256(json.dumps(self._files, sort_keys=True).encode()).hexdigest()

    def _compare(self, name: str, observed: Mapping[str, Any]) -> None:
        expected = self._files.get(name)
        if observed != expected:
            raise damaged(self._kind, self._folder / name, observed, expected or "not in it")


def read(folder: Path, kind: Kind) -> Manifest | None:
    """Read the manifest of a folder; None where it has none.

    Manifests without a sum of their own, as they were written until 0.1, are taken as they are.

    Raises:
        CheckpointError: SEG-C006 it is damaged; SEG-C007 a newer format.
        ResourceError: SEG-R030, it is there and cannot be read.
    """
    path = folder / NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise unreadable(path, error) from error
    except OSError as error:
        raise damaged(kind, path, error.strerror or error, "a complete manifest") from error
    try:
        table = json_object(content)
        own_sum = table.get(_OWN_SUM)
        if own_sum is not None and content != _text(_without_sum(table)):
            raise damaged(kind, path, "its text does not have its own sum", "as it was written")
        require_known_format(int(table["format"]), folder, kind)  # a newer one may have other keys
        if own_sum is None and table.keys() != _KEYS:  # a damaged name of the sum is none, too
            raise damaged(kind, path, f"the keys {', '.join(table)}", ", ".join(sorted(_KEYS)))
        files = {name: dict(entry) for name, entry in table["files"].items()}
        if strange := [name for name in files if Path(name).name != name or name == NAME]:
            raise damaged(kind, path, f"it lists {strange[0]!r}", "names of files beside it")
        return Manifest(folder, kind, files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        found = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise damaged(kind, path, found, "a complete manifest") from error


def require_known_format(number: int, folder: Path, kind: Kind) -> None:
    """Refuse what a newer version has written.

    Raises:
        CheckpointError: SEG-C007.
    """
    if number > FORMAT:
        raise CheckpointError(
            "SEG-C007",
            f"{kind.name} was written by a newer Terrazzo",
            file=folder,
            observed=f"format {number}",
            allowed=f"format up to {FORMAT}",
            next_step="upgrade terrazzo",
        )


def damaged(kind: Kind, path: Path, observed: object, expected: object) -> CheckpointError:
    """Compose the error for a file that is not what was written."""
    return CheckpointError(
        "SEG-C006",
        f"{kind.name} is damaged",
        file=path,
        observed=_told(observed),
        allowed=_told(expected),
        next_step=kind.next_step,
    )


def _told(what: object) -> object:
    """Return the size and sum of a file as words, anything else as it is."""
    if not isinstance(what, Mapping):
        return what
    return f"{what.get('bytes')} bytes, SHA-256 {what.get('sha256')}"


def _without_sum(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != _OWN_SUM}


def _text(table: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is written, with the sum of all that stands before the sum."""
    own_sum = hashlib.sha256(json.dumps(table, indent=1).encode()).hexdigest()
    return (json.dumps({**table, _OWN_SUM: own_sum}, indent=1) + "\n").encode()


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}
