"""Scenes as the files of a folder whose names differ in the band alone: ``{tile}_{band}.tif``."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.inference.scene_files import BandFile, SceneFiles
from terrazzo.inference.scene_lists.paths import map_name
from terrazzo.io import remote_paths

_FIELD = re.compile(r"\{([^{}]*)\}")
_BAND = "band"


def scenes(pattern: str) -> list[SceneFiles]:
    """Group files by all fields of a pattern but ``{band}``, which names the one band of each file.

    A field stands for one letter or more of a file or folder name; ``{band}`` for as few as may be,
    any other for as many. Files whose names begin with a dot are passed over.

    Args:
        pattern: a path with fields in braces, among them ``{band}`` once.

    Raises:
        ConfigError: SEG-X102, the pattern cannot be.
        DataError: SEG-D030 a remote one; SEG-D091 no file fits it.
    """
    if remote_paths.is_remote(pattern):
        raise DataError(
            "SEG-D030",
            "files cannot be looked for over the network",
            file=pattern,
            next_step="list them in a scenes.toml",
        )
    fields = _fields(pattern)
    expression = _expression(pattern)
    groups: dict[tuple[str, ...], list[BandFile]] = {}
    for path in sorted(map(Path, glob.glob(_glob(pattern)))):  # noqa: PTH207 - escapes come along
        match = expression.fullmatch(str(path))
        if match is None or not path.is_file():
            continue
        key = tuple(match[field] for field in fields)
        groups.setdefault(key, []).append(BandFile(path, names=((match[_BAND],),)))
    origin = Path(pattern)
    if not groups:
        raise DataError(
            "SEG-D091",
            "no file fits the pattern",
            file=pattern,
            allowed="a field stands for one letter or more of one file or folder name",
            next_step="check the folder and the pattern",
        )
    return [
        SceneFiles(
            map_name("_".join(key) or _folder_name(files[0].path), origin), tuple(files), origin
        )
        for key, files in groups.items()
    ]


def _folder_name(path: Path) -> str:
    return path.absolute().parent.name or "scene"


def _fields(pattern: str) -> list[str]:
    """Return the fields but ``{band}``, each once."""
    names = _FIELD.findall(pattern)
    rest = _FIELD.sub("", pattern)
    wrong = [name for name in names if not name.isidentifier()]
    if names.count(_BAND) != 1 or wrong or "{" in rest or "}" in rest or "\0" in pattern:
        raise ConfigError(
            "SEG-X102",
            "the pattern of scenes cannot be",
            file=pattern,
            observed=f"fields {', '.join(names) or '(none)'}",
            allowed="names in braces, {band} once among them: folder/{tile}_{band}.tif",
            next_step="correct the pattern; quote it, or the shell takes the braces away",
        )
    return list(dict.fromkeys(name for name in names if name != _BAND))


def _pieces(pattern: str) -> list[tuple[str, bool]]:
    """Return text and names of fields in turn, with whether each is a field."""
    return [(text, number % 2 == 1) for number, text in enumerate(_FIELD.split(pattern))]


def _glob(pattern: str) -> str:
    return "".join("*" if is_field else glob.escape(text) for text, is_field in _pieces(pattern))


def _expression(pattern: str) -> re.Pattern[str]:
    seen: set[str] = set()
    parts = []
    for text, is_field in _pieces(str(Path(pattern))):
        if not is_field:
            parts.append(re.escape(text))
        elif text in seen:
            parts.append(f"(?P={text})")
        else:
            seen.add(text)
            parts.append(f"(?P<{text}>[^/]+{'?' if text == _BAND else ''})")
    return re.compile("".join(parts))
