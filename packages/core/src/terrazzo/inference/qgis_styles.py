"""Styles by which QGIS shows a map and its polygons: classes by name, in their colours.

QGIS loads a file ``map.qml`` beside ``map.tif`` by itself, and from a GeoPackage the style that its
table ``layer_styles`` marks as default. Written by hand for QGIS 3: what is not in a style keeps
the program's own value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from sqlite3 import Connection
from xml.sax.saxutils import quoteattr

from terrazzo.base import printable
from terrazzo.base.disk_errors import writing
from terrazzo.data.labels import LabelMap

SUFFIX = ".qml"
"""Of the style of a raster; its name is that of the raster otherwise."""

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
_VERSION = "3.22"
_STYLE_NAME = "classes"

_LAYER_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256),
    f_table_schema TEXT(256),
    f_table_name TEXT(256),
    f_geometry_column TEXT(256),
    styleName TEXT(30),
    styleQML TEXT,
    styleSLD TEXT,
    useAsDefault BOOLEAN,
    description TEXT,
    owner TEXT(30),
    ui TEXT(30),
    update_time DATETIME
)"""


def write_map_style(path: Path, label_map: LabelMap) -> None:
    """Write the style of a class map, to lie beside it.

    Args:
        path: where to, ending in `SUFFIX`.
        label_map: K classes.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    text = map_style(label_map)
    with writing(path):
        path.write_text(text, encoding="utf-8", newline="\n")


def map_style(label_map: LabelMap) -> str:
    """Return a style of a raster whose pixels are class ids."""
    entries = (
        f'        <paletteEntry value="{k}" label={quoteattr(name)} color="{colour}" alpha="255"/>'
        for k, (name, colour) in enumerate(_shown(label_map))
    )
    return _text(
        [
            "  <pipe>",
            '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">',
            "      <colorPalette>",
            *entries,
            "      </colorPalette>",
            "    </rasterrenderer>",
            "  </pipe>",
        ]
    )


def polygons_style(label_map: LabelMap, attribute: str) -> str:
    """Return a style of polygons whose class name is an attribute."""
    shown = list(_shown(label_map))
    categories = (
        f"      <category value={quoteattr(name)} label={quoteattr(name)} "
        f'symbol="{k}" render="true"/>'
        for k, (name, _) in enumerate(shown)
    )
    symbols = (line for k, (_, colour) in enumerate(shown) for line in _fill(k, colour))
    return _text(
        [
            f'  <renderer-v2 type="categorizedSymbol" attr={quoteattr(attribute)} '
            'symbollevels="0" enableorderby="0" forceraster="0">',
            "    <categories>",
            *categories,
            "    </categories>",
            "    <symbols>",
            *symbols,
            "    </symbols>",
            "  </renderer-v2>",
        ]
    )


def add_to_geopackage(
    database: Connection,
    tables: Sequence[str],
    geometry_column: str,
    attribute: str,
    label_map: LabelMap,
) -> None:
    """Add the default style of tables of polygons to a GeoPackage.

    Args:
        database: the file, to be written to.
        tables: that hold the polygons, at least one.
        geometry_column: of those tables.
        attribute: of those tables, which holds the name of the class.
        label_map: K classes.

    Raises:
        sqlite3.Error: the disk is full or refuses.
    """
    style = polygons_style(label_map, attribute)
    description = f"classes of {label_map.name}"
    with database:
        database.execute(_LAYER_STYLES)
        database.executemany(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner, "
            "ui, update_time) SELECT '', '', table_name, ?, ?, ?, '', 1, ?, '', '', last_change "
            "FROM gpkg_contents WHERE table_name = ?",
            [(geometry_column, _STYLE_NAME, style, description, table) for table in tables],
        )
        # As GeoPackage wants of every table with content; QGIS does the same.
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change, srs_id) "
            "SELECT 'layer_styles', 'attributes', 'layer_styles', last_change, 0 "
            "FROM gpkg_contents WHERE table_name = ?",
            tables[:1],
        )


def _shown(label_map: LabelMap) -> Iterator[tuple[str, str]]:
    """Yield name and colour of each class, as XML can hold them."""
    for each in label_map.classes:
        yield printable.one_line(each.name), each.colour.lower()


def _fill(number: int, colour: str) -> list[str]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return [
        f'      <symbol type="fill" name="{number}" alpha="1" clip_to_extent="1" force_rhr="0">',
        '        <layer class="SimpleFill" enabled="1" locked="0" pass="0">',
        '          <Option type="Map">',
        f'            <Option type="QString" name="color" value="{red},{green},{blue},255"/>',
        '            <Option type="QString" name="style" value="solid"/>',
        '            <Option type="QString" name="outline_style" value="no"/>',
        "          </Option>",
        "        </layer>",
        "      </symbol>",
    ]


def _text(lines: Iterable[str]) -> str:
    return "\n".join([_HEAD, f'<qgis version="{_VERSION}">', *lines, "</qgis>", ""])
