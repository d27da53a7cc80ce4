"""Where the files are that a list of scenes names, and what their maps may be called."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.io import remote_paths
from terrazzo.io.special_files import refuse_special


def text_of(path: Path) -> str:
    """Return the content of a list of scenes.

    Raises:
        ConfigError: SEG-X005 it cannot be read; SEG-X100 it is no text in UTF-8.
        DataError: SEG-D030 it is remote; as `refuse_special`.
    """
    if remote_paths.is_remote(path):
        raise DataError(
            "SEG-D030",
            "a list of scenes is not read over the network",
            file=path,
            observed=str(path),
            allowed="a file on this machine; what it names may be remote with --allow-remote",
            next_step="download the list first",
        )
    try:
        refuse_special(path, path.stat().st_mode)
        return path.read_text(encoding="utf-8-sig")  # Windows tools write a byte order mark
    except OSError as error:
        raise ConfigError(
            "SEG-X005", "cannot read the file", file=path, observed=error.strerror
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            "SEG-X100",
            "the list of scenes is no text in UTF-8",
            file=path,
            observed=f"byte {error.start} is {error.object[error.start]:#04x}",
            next_step="save it in UTF-8",
        ) from None


def located(text: str, origin: Path, *, allow_remote: bool) -> Path:
    """Return the place of a file that a list names, relative to the folder of the list.

    Raises:
        ConfigError: SEG-X101, no path has such letters.
        DataError: SEG-D030, it is remote and that is not allowed, or of a kind that is not read.
    """
    if not text or "\0" in text:
        raise ConfigError(
            "SEG-X101",
            "a list of scenes names no file",
            file=origin,
            observed=repr(text),
            allowed="a path, relative to the folder of the list",
            next_step="correct the path",
        )
    if not remote_paths.is_remote(text):
        return origin.parent / text
    if not allow_remote:
        raise DataError(
            "SEG-D030",
            "remote and virtual paths are not read",
            file=origin,
            observed=text,
            allowed="files on this machine",
            next_step="download the file and name it, or let it be read with --allow-remote",
        )
    return remote_paths.allow(Path(text))


def map_name(text: str, origin: Path) -> Path:
    """Return what the map of a scene is called below the folder of maps.

    Raises:
        ConfigError: SEG-X101, it leads out of that folder.
    """
    name = PurePosixPath(text)
    if name.is_absolute() or not name.name or ".." in name.parts or "\0" in text:
        raise ConfigError(
            "SEG-X101",
            "a scene cannot be called so",
            file=origin,
            observed=repr(text),
            allowed="a name such as north, or a relative path such as 2021/north",
            next_step="give the scene another name",
        )
    return Path(name)


def name_of_file(text: str) -> str:
    """Return what a scene is called that has no name: as its first file, without the ending."""
    name = PurePosixPath(text)
    stem = name.with_suffix("") if name.name else name
    inside = not stem.is_absolute() and ".." not in stem.parts and not remote_paths.is_remote(text)
    return stem.as_posix() if inside else stem.name
