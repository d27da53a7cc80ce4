"""Sentinel-2 products as they are delivered: a folder ``….SAFE`` of JPEG 2000 files and XML.

Levels 1C and 2A of one tile. Which file holds which band at which resolution stands in the
product's ``MTD_MSIL1C.xml`` or ``MTD_MSIL2A.xml``, and so do the numbers by which digital numbers
become reflectance: (DN + offset) / quantification. The offset came with processing baseline 04.00;
earlier products have none. The DN of NODATA means no data in every baseline.

Sources: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), product metadata of levels
1C and 2A; the note on processing baseline 04.00, in use since 25 January 2022.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.reading import now_reading
from terrazzo.io import safe_xml
from terrazzo.io.safe_xml import Element, XmlError

SUFFIX = ".SAFE"
SPECTRAL = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"
)  # fmt: skip
"""Bands in the order of ``band_id`` 0 … 12 of the metadata."""
CLASSES = "SCL"
"""Scene classification of level 2A: classes, not reflectance."""
RESOLUTIONS = (10, 20, 60)
_NATIVE = dict.fromkeys(("B02", "B03", "B04", "B08"), 10) | dict.fromkeys(("B01", "B09", "B10"), 60)
"""Metres of a pixel; all others have 20."""
_METADATA = ("MTD_MSIL2A.xml", "MTD_MSIL1C.xml")
_FILE = re.compile(r"_(B\d\d|B8A|SCL)(?:_(10|20|60)m)?$")


class Declared(NamedTuple):
    """What a product says of the pixels of one of its files, which the file does not.

    Attributes:
        name: of the band.
        nodata: DN of pixels without data; None: there is none.
        scale: a value is DN × scale + offset.
        offset: see there.
    """

    name: str
    nodata: float | None
    scale: float
    offset: float


class BandFile(NamedTuple):
    """A band at one resolution.

    Attributes:
        path: a JPEG 2000 file.
        resolution: metres of a pixel.
        declared: what the product says of it.
    """

    path: Path
    resolution: int
    declared: Declared

    @property
    def is_classes(self) -> bool:
        """Whether its pixels are classes, which must not be mixed."""
        return self.declared.name == CLASSES


@dataclass(frozen=True, slots=True)
class Product:
    """A Sentinel-2 product.

    Attributes:
        folder: where it lies.
        metadata: its XML file.
        files: every band at every resolution there is.
        band_names: those it has, reflectance first, then `CLASSES`.
    """

    folder: Path
    metadata: Path
    files: tuple[BandFile, ...]
    band_names: tuple[str, ...]

    def native(self, name: str) -> BandFile:
        """Return the file of a band at the finest resolution there is."""
        return min(self._of(name), key=lambda file: file.resolution)

    def at(self, name: str, resolution: int) -> BandFile:
        """Return the file of a band at a resolution; where there is none, its finest."""
        exact = [file for file in self._of(name) if file.resolution == resolution]
        return exact[0] if exact else self.native(name)

    def finest(self, names: Collection[str] = ()) -> int:
        """Return the finest resolution of some bands, in metres; of all spectral ones by default.

        Names of other bands count for nothing.
        """
        known = [n for n in self.band_names if n in names] or list(self.spectral)
        return min(self.native(name).resolution for name in known)

    @property
    def any_file(self) -> BandFile:
        """A file that is there, of reflectance where there is one.

        Raises:
            DataError: SEG-D099, none is there.
        """
        for name in self.band_names:
            if (file := self.native(name)).path.is_file():
                return file
        for file in self.files:
            if file.path.is_file():
                return file
        raise _unusable(self.metadata, "none of its files is there", "the files of its bands")

    def require(self, names: Collection[str], resolution: int) -> None:
        """Refuse to read bands whose files were left out of the folder.

        Args:
            names: of bands it has.
            resolution: that they are read at.

        Raises:
            DataError: SEG-D099, naming the first one.
        """
        for file in (self.at(name, resolution) for name in names):
            if not file.path.is_file():
                raise _unusable(
                    self.metadata,
                    f"{file.path.relative_to(self.folder)} is not there",
                    f"the files of {', '.join(names)} that the metadata name",
                )

    @property
    def spectral(self) -> tuple[str, ...]:
        """The bands of reflectance."""
        return tuple(name for name in self.band_names if name != CLASSES)

    def _of(self, name: str) -> list[BandFile]:
        return [file for file in self.files if file.declared.name == name]


def is_product(path: Path) -> bool:
    """Tell whether a path is a folder that is called like a Sentinel-2 product."""
    return str(path).upper().endswith(SUFFIX) and path.is_dir()


def is_inside(folder: str) -> bool:
    """Tell whether a path of folders with slashes leads into a product, by their names."""
    return any(part.upper().endswith(SUFFIX) for part in folder.split("/"))


def is_zipped(path: Path) -> bool:
    """Tell whether a path is called like a zipped Sentinel-2 product."""
    name = path.name.upper()
    named = SUFFIX in name or re.match(r"S2[A-D]_MSIL[12][AC]_", name) is not None
    return name.endswith(".ZIP") and named


def product(folder: Path) -> Product:
    """Read what a product says of itself.

    Raises:
        DataError: SEG-D099, it is not a level-1C or level-2A product of one tile, or its metadata
            cannot be used.
    """
    metadata = _metadata(folder)
    now_reading(metadata)
    stat = metadata.stat()
    return _read(str(folder), str(metadata), stat.st_mtime_ns, stat.st_size)


def require_resolution(resolution: int | None) -> None:
    """Refuse a resolution that no band has.

    Raises:
        ConfigError: SEG-X111.
    """
    if resolution is not None and resolution not in RESOLUTIONS:
        raise ConfigError(
            "SEG-X111",
            "data.options.resolution is none of Sentinel-2",
            observed=str(resolution),
            allowed=", ".join(map(str, RESOLUTIONS)),
            next_step="leave it out for the finest of the bands in use",
        )


def refused_zip(path: Path) -> DataError:
    """Compose the error for a product that is still packed."""
    return DataError(
        "SEG-D099",
        "a Sentinel-2 product is read as a folder, not as a zip",
        file=path,
        observed="a ZIP archive",
        allowed=f"the folder ….{SUFFIX[1:]} inside",
        next_step=f"unpack it: `unzip {path.name}`, and name the folder",
    )


def _metadata(folder: Path) -> Path:
    found = next((folder / name for name in _METADATA if (folder / name).is_file()), None)
    if found is None:
        raise _unusable(
            folder,
            "no " + " and no ".join(_METADATA),
            "the whole folder as delivered, of level 1C or 2A",
        )
    return found


@lru_cache(maxsize=64)
def _read(folder: str, metadata: str, changed_ns: int, size: int) -> Product:  # noqa: ARG001
    path = Path(metadata)
    try:
        tree = safe_xml.parse(path.read_bytes())
    except OSError as error:
        raise _unusable(path, str(error.strerror), "a file that can be read") from None
    except XmlError as error:
        raise _unusable(path, str(error), "the XML of the product as delivered") from None
    declared = _declared(path, tree)
    files = tuple(_files(Path(folder), path, tree, declared))
    names = {file.declared.name for file in files}
    ordered = tuple(name for name in (*SPECTRAL, CLASSES) if name in names)
    if not any(name in SPECTRAL for name in ordered):
        raise _unusable(path, "no file of a band in IMAGE_FILE", "at least one band")
    return Product(Path(folder), path, files, ordered)


def _declared(path: Path, tree: Element) -> dict[str, Declared]:
    """Return what is said of each band: by its offset, the quantification and the special value."""
    level2 = path.name == _METADATA[0]
    value = tree.first_text(
        *(("BOA_QUANTIFICATION_VALUE",) if level2 else ()), "QUANTIFICATION_VALUE"
    )
    quantification = _number(path, "QUANTIFICATION_VALUE", value)
    if quantification <= 0:
        raise _unusable(path, f"quantification {value}", "a number above 0")
    offsets = tree.all("BOA_ADD_OFFSET" if level2 else "RADIO_ADD_OFFSET")
    told = {each.attributes.get("band_id", ""): each.text for each in offsets}
    nodata = _nodata(path, tree)
    if told and len(told) < len(SPECTRAL) - 1:
        raise _unusable(path, f"offsets of {len(told)} bands", "an offset of every band, or none")
    if not told and _baseline(path, tree) >= 4:
        raise _unusable(
            path, "a processing baseline from 04.00 on, without offsets", "an offset of every band"
        )
    found = {}
    for number, name in enumerate(SPECTRAL):
        offset = _number(path, "offset", told.get(str(number), "0"))
        found[name] = Declared(name, nodata, 1 / quantification, offset / quantification)
    found[CLASSES] = Declared(CLASSES, 0, 1.0, 0.0)  # class 0 of SCL is no data
    return found


def _baseline(path: Path, tree: Element) -> float:
    return _number(path, "PROCESSING_BASELINE", tree.first_text("PROCESSING_BASELINE"))


def _nodata(path: Path, tree: Element) -> float | None:
    for special in tree.all("Special_Values"):
        if special.first_text("SPECIAL_VALUE_TEXT") == "NODATA":
            return _number(path, "NODATA", special.first_text("SPECIAL_VALUE_INDEX"))
    return None


def _number(path: Path, what: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise _unusable(path, f"{what} {text!r}", "a number") from None


def _files(
    folder: Path, path: Path, tree: Element, declared: dict[str, Declared]
) -> list[BandFile]:
    names = [element.text for element in tree.all("IMAGE_FILE")]
    granules = {PurePosixPath(name).parts[:2] for name in names}
    if len(granules) > 1:
        raise _unusable(
            path, f"{len(granules)} granules", "one tile a product, as delivered since 2016"
        )
    found = []
    for name in names:
        match = _FILE.search(name)
        if match is None:  # TCI, AOT, WVP: no reflectance
            continue
        band = match[1]
        resolution = int(match[2] or _NATIVE.get(band, 20))
        found.append(BandFile(_inside(folder, path, name), resolution, declared[band]))
    return found


def _inside(folder: Path, path: Path, name: str) -> Path:
    """Return the place of a file that the metadata name, which may lead nowhere else."""
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts:
        raise _unusable(path, f"IMAGE_FILE {name}", "a path inside the folder")
    return folder / f"{name}.jp2"


def _unusable(path: Path, observed: str, allowed: str) -> DataError:
    return DataError(
        "SEG-D099",
        "the folder is not read as a Sentinel-2 product",
        file=path,
        observed=observed,
        allowed=allowed,
        next_step="unpack or download the product again, or name its JPEG 2000 files one by one "
        "as images",
    )
