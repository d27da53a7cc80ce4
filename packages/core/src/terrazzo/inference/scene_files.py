"""A scene that lies in several files, as a prediction is asked for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from terrazzo.data.mask_files import LocatedMasks, absolute_masks, permitting_masks
from terrazzo.data.scene_stack import ON_ONE_GRID, Placing
from terrazzo.io.raster_formats import Plane, at_plane, permit_scene
from terrazzo.io.rasters import ResamplingName
from terrazzo.io.remote_paths import RemotePath

Names = tuple[str, ...]
"""What a band goes by, the most binding name first."""


@dataclass(frozen=True, slots=True)
class BandFile:
    """A raster of a scene.

    Attributes:
        path: a GeoTIFF file.
        resampling: see `ImageFile`.
        names: of each of its bands, by a list of scenes or a pattern; empty: as the file has them.
    """

    path: Path
    resampling: ResamplingName | None = None
    names: tuple[Names, ...] = ()


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """One scene.

    Attributes:
        name: what its map is called, without an ending; relative.
        files: its rasters. Where all have `names`, bands are looked for by these and files without
            a band in use are not opened; otherwise bands count file by file.
        origin: the list or folder that names it.
        band_names: names of all bands, file by file, in place of those in the files.
        placing: whether files may lie on other grids than the first.
        notes: what a person should know of the list.
        masks: files that say which pixels count.
    """

    name: Path
    files: tuple[BandFile, ...]
    origin: Path
    band_names: tuple[str, ...] = ()
    placing: Placing = ON_ONE_GRID
    notes: tuple[str, ...] = ()
    masks: LocatedMasks = ()

    @property
    def has_names(self) -> bool:
        """Whether every band has names that come from outside its file."""
        return all(file.names for file in self.files)

    def at_plane(self, plane: Plane) -> SceneFiles:
        """Return it with files of which one plane is meant."""
        files = tuple(
            file
            if isinstance(file.path, RemotePath)
            else replace(file, path=at_plane(file.path, plane))
            for file in self.files
        )
        return replace(self, files=files)

    def permitting(self, formats: Collection[str], *, allow_vrt: bool) -> SceneFiles:
        """Return it with files that may also be of other formats; see `permit_scene`."""
        files = tuple(
            file
            if isinstance(file.path, RemotePath)
            else replace(file, path=permit_scene(file.path, formats, allow_vrt=allow_vrt))
            for file in self.files
        )
        masks = permitting_masks(self.masks, formats, allow_vrt=allow_vrt)
        return replace(self, files=files, masks=masks)

    def absolute(self) -> SceneFiles:
        """Return it with paths that mean the same in any folder."""
        files = tuple(
            file if isinstance(file.path, RemotePath) else replace(file, path=file.path.absolute())
            for file in self.files
        )
        masks = absolute_masks(self.masks)
        return replace(self, files=files, masks=masks, origin=self.origin.absolute())
