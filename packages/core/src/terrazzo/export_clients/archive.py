"""Zip files whose bytes depend on what is in them alone."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)


def zip_files(folder: Path, path: Path) -> None:
    """Zip the files that lie in a folder, without those below it.

    Args:
        folder: whose files are zipped.
        path: of the zip, which may lie in the folder.
    """
    names = sorted(each.name for each in folder.iterdir() if each.is_file() and each != path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, _FIRST_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                while block := source.read(1 << 20):
                    target.write(block)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
