"""Scenes as STAC items: one by itself, those of an item collection, or of a collection or catalog.

Read here by itself: of an item only the assets are needed, and of a collection only the links.
Scale, offset and nodata are those inside the files; ``raster:bands`` is not used.

Sources: STAC specification 1.0 and 1.1 (item, collection, catalog; ``bands`` of 1.1 took the place
of ``eo:bands``), extension "Electro-Optical" 1.1 for ``common_name``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.json_files import json_object
from terrazzo.inference.scene_files import BandFile, Names, SceneFiles
from terrazzo.inference.scene_lists.paths import located, map_name, text_of
from terrazzo.io import remote_paths
from terrazzo.io.raster_formats import TIFF_SUFFIXES

_MOST_DOCUMENTS = 10_000
_FOR_PEOPLE = {"overview", "thumbnail", "visual", "metadata"}
"""Roles of assets that hold no pixels as measured."""
_KINDS = (("image/tiff", TIFF_SUFFIXES), ("image/jp2", (".jp2",)))
"""Media types and endings of rasters, the preferred first: some items have each band in both."""
_FILE = "file://"


def scenes(path: Path, *, allow_remote: bool) -> list[SceneFiles]:
    """Return the scenes of an item, an item collection, or a collection or catalog of local items.

    Args:
        path: a JSON file.
        allow_remote: also take assets from URLs.

    Raises:
        ConfigError: as `paths.text_of`; SEG-X104 it is not STAC.
        DataError: as `paths.located`; SEG-D091 it holds no item with a GeoTIFF or
            JPEG 2000 asset.
    """
    found = [
        scene
        for origin, item in _items(path)
        if (scene := _scene(origin, item, allow_remote=allow_remote)) is not None
    ]
    if not found:
        raise DataError(
            "SEG-D091",
            "there is no scene in the STAC file",
            file=path,
            allowed="an item with GeoTIFF or JPEG 2000 assets, or a collection that holds or links "
            "to one",
            next_step="name an item",
        )
    return found


def _items(path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each item with the file that holds it; links are followed once each."""
    left, seen = [path], {path.resolve()}
    while left:
        origin = left.pop(0)
        document = _document(origin)
        match document.get("type"):
            case "Feature":
                yield origin, document
            case "FeatureCollection":
                for feature in _list(document, "features", origin):
                    yield origin, feature
            case "Collection" | "Catalog":
                for link in _list(document, "links", origin):
                    if link.get("rel") in ("item", "child"):
                        place = _local(str(link.get("href", "")), origin)
                        if place.resolve() not in seen:
                            seen.add(place.resolve())
                            left.append(place)
                if len(seen) > _MOST_DOCUMENTS:
                    raise _not_stac(path, f"more than {_MOST_DOCUMENTS} linked files")
            case other:
                raise _not_stac(origin, f"type {other!r}")


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json_object(text_of(path).encode())
    except ValueError as error:
        raise _not_stac(path, error) from None
    return document


def _list(document: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    values = document.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise _not_stac(path, f"{key} is no list of objects")
    return values


def _scene(origin: Path, item: Mapping[str, Any], *, allow_remote: bool) -> SceneFiles | None:
    assets = item.get("assets")
    if not isinstance(assets, dict) or not all(isinstance(a, dict) for a in assets.values()):
        raise _not_stac(origin, "an item without an object of assets")
    files = tuple(
        BandFile(_place(asset, origin, allow_remote=allow_remote), names=_names(key, asset, origin))
        for key, asset in _rasters(assets).items()
    )
    name = str(item.get("id") or origin.stem).replace("/", "_")
    return SceneFiles(map_name(name, origin), files, origin) if files else None


def _rasters(assets: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the assets with pixels as measured: GeoTIFF, or else JPEG 2000."""
    found = {
        key: asset
        for key, asset in assets.items()
        if not _FOR_PEOPLE & set(_texts(asset.get("roles")))
    }
    for media_type, endings in _KINDS:
        of_kind = {key: a for key, a in found.items() if _is_of(a, media_type, endings)}
        if of_kind:
            return of_kind
    return {}


def _is_of(asset: Mapping[str, Any], media_type: str, endings: tuple[str, ...]) -> bool:
    path = str(asset.get("href", "")).partition("?")[0]
    return str(asset.get("type", "")).startswith(media_type) or path.lower().endswith(endings)


def _names(key: str, asset: Mapping[str, Any], origin: Path) -> tuple[Names, ...]:
    """Return what each band goes by: the asset where it is its only one, its name, its common name.

    Places are kept, so that a name of one kind is only compared with names of that kind.
    """
    bands = _list(asset, "bands" if "bands" in asset else "eo:bands", origin)
    if not bands:
        return ((key,),)
    keys = [key] if len(bands) == 1 else [""] * len(bands)
    return tuple(
        (
            keys[number],
            str(band.get("name", "")),
            str(band.get("eo:common_name", band.get("common_name", ""))),
        )
        for number, band in enumerate(bands)
    )


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _place(asset: Mapping[str, Any], origin: Path, *, allow_remote: bool) -> Path:
    """Return where an asset lies; a remote one that is not allowed is refused when it is opened."""
    href = str(asset.get("href", ""))
    if remote_paths.is_remote(href) and not href.startswith(_FILE):
        return located(href, origin, allow_remote=True) if allow_remote else Path(href)
    return _local(href, origin)


def _local(href: str, origin: Path) -> Path:
    """Return the file that a link leads to; a percent sign may stand for itself or for a letter."""
    if href.startswith(_FILE):
        return located(unquote(href.removeprefix(_FILE)), origin, allow_remote=False)
    path = located(href, origin, allow_remote=False)
    return path if path.exists() else located(unquote(href), origin, allow_remote=False)


def _not_stac(path: Path, observed: object) -> ConfigError:
    return ConfigError(
        "SEG-X104",
        "the file is not STAC",
        file=path,
        observed=observed,
        allowed="a STAC item, an item collection, a collection or a catalog",
        next_step="name one of these, or list the files in a scenes.toml",
    )
