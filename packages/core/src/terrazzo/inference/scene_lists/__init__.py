"""Lists of scenes that lie in several files each, for prediction.

``tables`` reads TOML and CSV, ``pattern`` groups the files of a folder by their names, ``stac``
reads items and collections. `read` takes whichever it is given.
"""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.errors import ConfigError
from terrazzo.inference.scene_files import SceneFiles
from terrazzo.inference.scene_lists import pattern, stac, tables

__all__ = ["read"]


def read(source: str, *, allow_remote: bool = False) -> list[SceneFiles]:
    """Return the scenes that a list or a pattern names.

    Args:
        source: a file ``.toml``, ``.csv``, ``.json`` or ``.geojson`` (STAC), or a pattern such as
            ``folder/{tile}_{band}.tif``.
        allow_remote: also take files from URLs.

    Raises:
        ConfigError: SEG-X100 it is none of these; as `tables`, `pattern` and `stac`.
        DataError: as these.
    """
    if "{" in source:
        return pattern.scenes(source)
    path = Path(source)
    match path.suffix.lower():
        case ".toml":
            return tables.scenes_of_toml(path, allow_remote=allow_remote)
        case ".csv":
            return tables.scenes_of_csv(path, allow_remote=allow_remote)
        case ".json" | ".geojson":
            return stac.scenes(path, allow_remote=allow_remote)
    raise ConfigError(
        "SEG-X100",
        "this does not list scenes",
        file=source,
        observed=f"the ending {path.suffix!r}" if path.suffix else "no ending",
        allowed="scenes.toml, scenes.csv, a STAC item, collection or catalog (.json), or a "
        "pattern with {band}, such as folder/{tile}_{band}.tif",
        next_step="name one of these; a GeoTIFF of all bands is named without --scene",
    )
