"""Sentinel-2 products of noise, in the layout they are delivered in, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from terrazzo.io.sentinel2 import SPECTRAL

CRS = "EPSG:32632"
CORNER = (699_960, 5_100_000)
LOSSLESS = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
_FILES_2A = {
    10: ("B02", "B03", "B04", "B08"),
    20: ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12", "SCL"),
    60: ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B09", "B11", "B12", "SCL"),
}
_FILES_1C = {10: ("B02", "B03", "B04", "B08"), 60: ("B01", "B09", "B10")} | {
    20: ("B05", "B06", "B07", "B8A", "B11", "B12")
}


def place(resolution: int) -> dict[str, Any]:
    """Return the CRS and the transform of a product at a resolution, in metres."""
    left, top = CORNER
    return {"crs": CRS, "transform": Affine(resolution, 0, left, 0, -resolution, top)}


def write_jp2(path: Path, image_HW: NDArray[Any], resolution: int = 10, block: int = 64) -> Path:
    """Write one band as JPEG 2000 without losses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = image_HW.shape
    profile = {"height": rows, "width": columns, "count": 1, "dtype": image_HW.dtype.name}
    tiles = {"blockxsize": block, "blockysize": block}
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", **profile, **place(resolution), **tiles, **LOSSLESS
    ) as dataset:
        dataset.write(image_HW, 1)
    return path


def write_product(
    root: Path,
    *,
    level: str = "2A",
    baseline: str = "04.00",
    sixty: int = 20,
    seed: int = 0,
    offset: int | None = -1000,
    bands: Sequence[str] = SPECTRAL,
    pixels: Mapping[tuple[str, int], NDArray[Any]] | None = None,
    dates: str = "20240613T102021",
) -> Path:
    """Write a product ``….SAFE`` of noise, with a corner of no data.

    Args:
        root: where to.
        level: ``2A`` or ``1C``.
        baseline: of the processing.
        sixty: rows and columns at 60 m.
        seed: of the noise.
        offset: of every band; None: the product tells of none, as before baseline 04.00.
        bands: whose files are written.
        pixels: of some bands, by name and resolution, in place of noise.
        dates: in the names.
    """
    short = baseline.replace(".", "")
    folder = root / f"S2A_MSIL{level}_{dates}_N{short}_R065_T32TQM_{dates}.SAFE"
    granule = f"GRANULE/L{level}_T32TQM_A046880_{dates}"
    names = []
    for resolution, several in (_FILES_2A if level == "2A" else _FILES_1C).items():
        for number, band in enumerate(several):
            lead = f"R{resolution}m/" if level == "2A" else ""
            end = f"_{resolution}m" if level == "2A" else ""
            name = f"{granule}/IMG_DATA/{lead}T32TQM_{dates}_{band}{end}"
            names.append(name)
            if band not in bands and band != "SCL":
                continue
            side = sixty * 60 // resolution
            image_HW = (pixels or {}).get((band, resolution))
            if image_HW is None:
                image_HW = _noise(side, [seed, resolution, number], classes=band == "SCL")
            write_jp2(folder / f"{name}.jp2", image_HW, resolution)
    (folder / f"MTD_MSIL{level}.xml").write_text(_metadata(level, baseline, offset, names))
    (folder / granule / "MTD_TL.xml").write_text(_TILE.format(level=level))
    return folder


def _noise(side: int, seed: list[int], *, classes: bool) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    if classes:
        image_HW = rng.integers(1, 12, (side, side)).astype(np.uint8)
    else:
        image_HW = rng.integers(1100, 9000, (side, side)).astype(np.uint16)
    image_HW[rows + columns < side // 4] = 0
    return image_HW


def _metadata(level: str, baseline: str, offset: int | None, names: Sequence[str]) -> str:
    files = "\n".join(f"            <IMAGE_FILE>{name}</IMAGE_FILE>" for name in names)
    kind, group = (
        ("BOA_ADD_OFFSET", "BOA_ADD_OFFSET_VALUES_LIST")
        if level == "2A"
        else ("RADIO_ADD_OFFSET", "Radiometric_Offset_List")
    )
    offsets = "".join(
        f'<{kind} band_id="{number}">{offset}</{kind}>' for number in range(len(SPECTRAL))
    )
    listed = "" if offset is None else f"<{group}>{offsets}</{group}>"
    value = '<{0}QUANTIFICATION_VALUE unit="none">10000</{0}QUANTIFICATION_VALUE>'
    quantification = (
        f"<QUANTIFICATION_VALUES_LIST>{value.format('BOA_')}"
        '<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE>'
        "</QUANTIFICATION_VALUES_LIST>"
        if level == "2A"
        else value.format("")
    )
    return _PRODUCT.format(
        level=level,
        baseline=baseline,
        files=files,
        quantification=quantification,
        offsets=listed,
    )


_PRODUCT = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level}_User_Product xmlns:n1="urn:product">
  <n1:General_Info>
    <Product_Info>
      <PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <Product_Organisation>
        <Granule_List>
          <Granule imageFormat="JPEG2000">
{files}
          </Granule>
        </Granule_List>
      </Product_Organisation>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
      {quantification}
      {offsets}
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-{level}_User_Product>
"""
_TILE = '<?xml version="1.0"?>\n<n1:Level-{level}_Tile_ID xmlns:n1="urn:tile"/>\n'
