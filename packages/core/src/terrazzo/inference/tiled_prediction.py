"""Prediction of a scene that is larger than memory: tiles in, finished rows out.

Memory holds a part of a row of tiles, and what the next row needs of this one: it grows with the
tile and, slowly, with the width of the scene, not with its height. A thread reads the next part
while the model works on this one; another blends, takes the best class and puts finished rows into
a `row_journal`. The GeoTIFF is written from there, so its bytes depend on the rows alone, however
often the work was killed and however many processes shared it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Count, Frozen
from terrazzo.data import class_map
from terrazzo.inference import tiles
from terrazzo.inference.blending import Blender
from terrazzo.inference.row_journal import Layer, RowBand
from terrazzo.inference.threads import in_background, read_ahead
from terrazzo.inference.tiles import Blend, Share, first_open
from terrazzo.inference.uncertainty import NODATA as UNKNOWN
from terrazzo.inference.uncertainty import Measure
from terrazzo.io import rasters, sentinel2
from terrazzo.io.pixels import AS_STORED, ImagePixels, ReadingRules, mark_missing
from terrazzo.io.rasters import Part
from terrazzo.models.contract import Predictor
from terrazzo.models.memory import ForwardPasses

_PIECE_COLUMNS = 2048
"""Columns of a row of tiles that are read at once; a scene as wide is read by rows of tiles."""


class Tiling(Frozen):
    """How a scene is cut into tiles."""

    tile: Count = 512
    """Rows and columns of a tile."""
    overlap: Annotated[int, Field(ge=0)] = 128
    """Rows and columns that two neighbours share at least; a quarter of it at each side of a seam
    is thrown away."""
    blend: Blend = "linear"
    """How neighbours are mixed; ``none`` takes each pixel from one tile."""
    batch_size: Count | None = None
    """Tiles a forward pass; None: one on a CPU, else four."""

    def tiles_a_pass(self, device: str) -> int:
        """Return how many tiles are predicted together.

        On a CPU several at a time are hardly faster than one by one, and take their memory.

        Args:
            device: of the model.
        """
        return self.batch_size or (1 if device.startswith("cpu") else 4)

    def shares(self, length: int) -> tuple[Share, ...]:
        """Return the tiles along an axis of the scene."""
        return tiles.shares(length, self.tile, self.overlap, self.blend)

    def row_bands(self, rows: int, most: int) -> tuple[RowBand, ...]:
        """Divide the rows of a scene into at most so many bands, two rows of tiles at least each.

        Each band but the first does one row of tiles again, for what that adds to its rows.
        """
        final = first_open(self.shares(rows))
        count = max(1, min(most, len(final) // 2))
        stops = [final[len(final) * part // count - 1] for part in range(1, count + 1)]
        return tuple(map(RowBand, (0, *stops[:-1]), stops))

    @pydantic.model_validator(mode="after")
    def _some_stride(self) -> Tiling:
        if self.overlap >= self.tile:
            msg = f"overlap {self.overlap} must be smaller than tile {self.tile}"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class Tally:
    """What was predicted.

    Attributes:
        pixels_K: int64 pixels of each class.
        nodata: pixels without data.
        seams: pairs of neighbours that a seam between columns of tiles divides, and how many of
            them differ in class.
        elsewhere: the same for all other pairs of neighbours in a row.
    """

    pixels_K: NDArray[np.int64]
    nodata: int
    seams: tuple[int, int]
    elsewhere: tuple[int, int]

    @property
    def seam_score(self) -> float:
        """How much more often classes change at a seam than elsewhere; 1 is invisible.

        NaN where there is no seam or nothing changes elsewhere.
        """
        (at, changed), (others, usual) = self.seams, self.elsewhere
        return (changed / at) / (usual / others) if at and usual else float("nan")


@dataclass(frozen=True)
class Scene:
    """The bands that are read for the model, in its order, and the rasters that hold them.

    Attributes:
        path: a raster whose grid is the map's.
        parts: rasters on this grid or brought onto it.
        rules: how values are taken, and what is computed of them.
        dtype: of the pixels read, where there are several rasters; None: that of the only one.
        masks: files that say which pixels count.
        area: outside of it nothing is predicted; None: everything is.
        grid: of the map; None: as the file says of itself.
    """

    path: Path
    parts: tuple[Part, ...]
    rules: ReadingRules = AS_STORED
    dtype: str | None = None
    masks: tuple[rasters.MaskPart, ...] = ()
    area: rasters.AreaRows | None = None
    grid: rasters.RasterInfo | None = None

    @classmethod
    def of_file(cls, path: Path, bands: tuple[int, ...], rules: ReadingRules = AS_STORED) -> Scene:
        """Return a scene of one raster, of which some bands are taken."""
        return cls(path, (Part(path, bands),), rules)

    @property
    def info(self) -> rasters.RasterInfo:
        """What the file says of itself that gives the grid, or that grid."""
        return self.grid or rasters.info(self.path, alpha=self.rules.alpha)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every raster that gives bands, the one that gives the grid first."""
        return tuple(dict.fromkeys((self.path, *(part.path for part in self.parts))))

    @property
    def title(self) -> str:
        """What a person is told of it."""
        others = len(self.files) - 1
        more = f" and {others} other file{'s' * (others > 1)}" if others else ""
        return f"{self.path}{more}"

    def read(self, window: tuple[int, int, int, int]) -> ImagePixels:
        """Read a part of it: first row, first column, rows, columns.

        Raises:
            DataError: as `rasters.read_stack`.
        """
        return rasters.read_stack(
            self.parts, window, dtype=self.dtype, rules=self.rules, masks=self.masks
        )


class RowStore(Protocol):
    """Where finished rows are put: a `row_journal.RowJournal`, or memory."""

    @property
    def band(self) -> RowBand:
        """The rows of the scene that it takes."""
        ...

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What it holds of each row: ``labels``, and others where asked for."""
        ...

    @property
    def next_row(self) -> int:
        """First row that is not finished."""
        ...

    def append(self, arrays: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:
        """Add finished rows R×… to every layer, with what is counted in them."""
        ...


@dataclass(frozen=True, slots=True)
class _Piece:
    """The scene's pixels under some tiles of a row, those beside each other.

    Attributes:
        number: of the row of tiles.
        tiles: their numbers.
        columns: of the scene, the first one and one past the last, that these pixels lie on.
        pixels: of all rows of the tiles; None: none of them shall be predicted.
        wanted_HW: where the scene holds data that shall be predicted.
    """

    number: int
    tiles: range
    columns: tuple[int, int]
    pixels: ImagePixels | None
    wanted_HW: NDArray[np.bool_]

    def under(self, share: Share) -> NDArray[Any]:
        """Return the pixels under one tile as models are shown them."""
        assert self.pixels is not None
        columns = self._of(share.start, share.stop)
        image_HWC, _, present_HWC = self.pixels
        if present_HWC is None:
            return image_HWC[:, columns]
        return mark_missing(image_HWC[:, columns], present_HWC[:, columns])

    def wants(self, row: Share, column: Share) -> bool:
        """Tell whether a tile gives anything to a pixel that is wanted."""
        down = slice(row.first - row.start, row.last - row.start)
        across = self._of(column.first, column.last)
        return self.pixels is not None and bool(self.wanted_HW[down, across].any())

    def _of(self, first: int, last: int) -> slice:
        return slice(first - self.columns[0], last - self.columns[0])


@dataclass(frozen=True, slots=True)
class _Predicted:
    """What a batch of tiles gave, by their numbers; tiles without data are left out of it."""

    number: int
    tiles: tuple[int, ...]
    outputs: NDArray[Any]


@dataclass(frozen=True, slots=True)
class _EndOfRow:
    """The end of a row of tiles.

    Attributes:
        number: of it.
        wanted_HW: where the scene holds data that shall be predicted; None: everywhere.
    """

    number: int
    wanted_HW: NDArray[np.bool_] | None


def predict_rows(
    trainer: Predictor,
    scene: Scene,
    num_classes: int,
    tiling: Tiling,
    journal: RowStore,
    *,
    nodata: int,
    row_done: Callable[[], None],
    say: Callable[[str], None] = lambda _: None,
    uncertainty: Measure | None = None,
) -> None:
    """Predict the rows of a band that its journal does not hold yet.

    Args:
        trainer: the model.
        scene: what to look at.
        num_classes: K.
        tiling: how it is cut.
        journal: gets the layer ``labels``, R×W, and, if it has them, ``probabilities``, R×W×K, and
            ``uncertainty``, R×W.
        nodata: label of pixels without data; their probabilities are NaN.
        row_done: called after every row of tiles, but for those that the area does not touch.
        say: told where fewer tiles a forward pass have to do.
        uncertainty: measure of it; None: it is not asked for.

    Raises:
        DataError: as `rasters.read_stack`.
        ResourceError: SEG-R004, the disk is full or refuses; SEG-R006, not even one tile fits into
            memory.
    """
    if journal.next_row == journal.band.last:
        return
    size = scene.info
    rows, columns = tiling.shares(size.rows), tiling.shares(size.columns)
    # Rows that are not final may have been touched by earlier tiles: those are done again.
    begin = sum(share.last <= journal.next_row for share in rows)
    stop = sum(share.first < journal.band.last for share in rows)
    keeper = _RowKeeper(scene, tiling, num_classes, nodata, journal, begin, uncertainty)
    passes = tile_passes(trainer, say)
    predict = passes.predict_labels if keeper.only_labels else passes.predict
    bands_of = [(part.path, part.bands or ()) for part in scene.parts]
    batch_size = tiling.tiles_a_pass(trainer.device)
    with (
        rasters.small_cache(rasters.blocks_kept(bands_of, size)),
        closing(read_ahead(_pieces(scene, rows, columns, range(begin, stop)), say)) as pieces,
        in_background(keeper.take) as put,
    ):
        for number, of_row in groupby(pieces, key=lambda piece: piece.number):
            row = rows[number]
            wanted = _Wanted(row.stop - row.start, size.columns)
            tiles_of_row = _tiles_of(of_row, row, columns, wanted)
            while batch := tuple(islice(tiles_of_row, batch_size)):
                images_BHWC = np.stack([image_HWC for _, image_HWC in batch])
                names = tuple(tile for tile, _ in batch)
                del batch  # and with it the pieces that these tiles lie on
                put(_Predicted(number, names, predict(images_BHWC)))
            put(_EndOfRow(number, wanted.of_row()))
            if touches(scene.area, row):
                row_done()


def tile_passes(trainer: Predictor, say: Callable[[str], None]) -> ForwardPasses:
    """Return the forward passes of tiles, in smaller batches where the memory does not suffice."""
    return ForwardPasses(
        trainer,
        "predicting tiles",
        setting="the tiles a forward pass (Tiling.batch_size)",
        smaller="give a smaller --tile, or fewer --workers",
        say=say,
    )


def touches(area: rasters.AreaRows | None, row: Share) -> bool:
    """Tell whether a row of tiles has a pixel to predict."""
    return area is None or bool(area.filled_rows[row.first : row.last].any())


def _pieces(
    scene: Scene, rows: tuple[Share, ...], columns: tuple[Share, ...], numbers: range
) -> Iterator[_Piece]:
    """Read the pixels under each row of tiles, from left to right.

    Rows that two rows of tiles share are read once, but for pieces that the area leaves out.
    """
    groups = _groups(_tiles_to_read(scene.area, columns), columns, _piece_columns(scene))
    above: dict[range, ImagePixels | None] = {}
    for number in numbers:
        row = rows[number]
        area_HW = _area_under(scene, row)
        for tiles_of in groups:
            across = columns[tiles_of.start].start, columns[tiles_of.stop - 1].stop
            inside_HW = None if area_HW is None else area_HW[:, slice(*across)]
            # Not what it was given: or the rows above would be held while the next are read.
            before = above.pop(tiles_of, None)
            if inside_HW is not None and not inside_HW.any():
                nothing_HW = np.zeros((row.stop - row.start, across[1] - across[0]), bool)
                yield _Piece(number, tiles_of, across, None, nothing_HW)
                continue
            kept = 0 if before is None else len(before.image_HWC)
            first = row.start + kept
            new = scene.read((first, across[0], row.stop - first, across[1] - across[0]))
            pixels = _below(before, new) if before is not None else new
            del before, new
            if number + 1 < numbers.stop:
                above[tiles_of] = _last_rows(pixels, row.stop - rows[number + 1].start)
            assert pixels.valid_HW is not None
            wanted_HW = pixels.valid_HW
            wanted_HW = wanted_HW if inside_HW is None else wanted_HW & inside_HW
            yield _Piece(number, tiles_of, across, pixels, wanted_HW)
            del pixels, wanted_HW


def _area_under(scene: Scene, row: Share) -> NDArray[np.bool_] | None:
    """Return where a row of tiles lies in the area; None: there is none."""
    if scene.area is None:
        return None
    if touches(scene.area, row):
        return scene.area.rows(row.start, row.stop)
    return np.zeros((row.stop - row.start, scene.info.columns), bool)


def _tiles_to_read(area: rasters.AreaRows | None, columns: tuple[Share, ...]) -> range:
    if area is None:
        return range(len(columns))
    first, last = area.columns
    under = [n for n, share in enumerate(columns) if share.first < last and share.last > first]
    return range(under[0], under[-1] + 1)


def _groups(tiles_of: range, columns: tuple[Share, ...], width: int) -> tuple[range, ...]:
    """Group the tiles of a row so that each group lies on no more columns, or is one tile."""
    groups: list[range] = []
    first = tiles_of.start
    for tile in tiles_of:
        if tile > first and columns[tile].stop - columns[first].start > width:
            groups.append(range(first, tile))
            first = tile
    return (*groups, range(first, tiles_of.stop))


def _piece_columns(scene: Scene) -> int:
    """Return how many columns of a scene are read at once.

    All of them where piece after piece would have the same blocks decoded again: of files with
    wide blocks, and of those that are brought onto another grid.
    """
    whole = scene.info.columns
    files = [(part.path, part.onto) for part in scene.parts]
    files += [(mask.path, mask.onto) for mask in scene.masks]
    for path, onto in files:
        if onto is not None or sentinel2.is_product(path):
            return whole
        if rasters.block_shape(path)[1] > _PIECE_COLUMNS // 2:
            return whole
    return _PIECE_COLUMNS


def _tiles_of(
    pieces: Iterable[_Piece], row: Share, columns: tuple[Share, ...], wanted: _Wanted
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the tiles of a row that give anything to a pixel that is wanted, with their pixels."""
    for piece in pieces:
        wanted.add(piece)
        for tile in piece.tiles:
            if piece.wants(row, columns[tile]):
                yield tile, piece.under(columns[tile])


class _Wanted:
    """Where a row of tiles shall be predicted, put together of its pieces.

    Args:
        rows: of the scene under the row of tiles.
        columns: of the scene.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = rows, columns
        self._pieces: list[tuple[tuple[int, int], NDArray[np.bool_] | None]] = []

    def add(self, piece: _Piece) -> None:
        """Take a piece."""
        all_of_it = bool(piece.wanted_HW.all())  # most are, and are not kept
        self._pieces.append((piece.columns, None if all_of_it else piece.wanted_HW))

    def of_row(self) -> NDArray[np.bool_] | None:
        """Return it for all columns of the scene; None: everywhere."""
        stop = 0
        for (first, last), wanted_HW in self._pieces:
            if first > stop or wanted_HW is not None:
                break
            stop = last
        if stop == self._shape[1]:
            return None
        all_HW = np.zeros(self._shape, bool)
        for (first, last), wanted_HW in self._pieces:
            all_HW[:, first:last] = True if wanted_HW is None else wanted_HW
        return all_HW


def _last_rows(pixels: ImagePixels, rows: int) -> ImagePixels | None:
    """Return a copy of the last rows, which keeps nothing of the others alive."""
    if rows <= 0:
        return None
    image_HWC, valid_HW, present_HWC = (
        None if each is None else each[-rows:].copy() for each in pixels
    )
    assert image_HWC is not None
    return ImagePixels(image_HWC, valid_HW, present_HWC)


def _below(above: ImagePixels, new: ImagePixels) -> ImagePixels:
    """Put new rows below those above."""
    assert above.valid_HW is not None
    assert new.valid_HW is not None
    present_HWC = None
    if above.present_HWC is not None or new.present_HWC is not None:
        presents = [
            np.broadcast_to(True, each.image_HWC.shape)
            if each.present_HWC is None
            else each.present_HWC
            for each in (above, new)
        ]
        present_HWC = np.concatenate(presents)
    return ImagePixels(
        np.concatenate([above.image_HWC, new.image_HWC]),
        np.concatenate([above.valid_HW, new.valid_HW]),
        present_HWC,
    )


class _RowKeeper:
    """Has tiles blended, and puts finished rows with what is counted in them into a journal."""

    def __init__(
        self,
        scene: Scene,
        tiling: Tiling,
        num_classes: int,
        nodata: int,
        journal: RowStore,
        begin: int,
        uncertainty: Measure | None,
    ) -> None:
        size = scene.info
        self.rows, columns = tiling.shares(size.rows), tiling.shares(size.columns)
        self.seams = np.array([later.first + later.ramp_in // 2 for later in columns[1:]], int)
        self.num_classes, self.nodata, self.journal = num_classes, nodata, journal
        self.without_data = {"labels": nodata, "probabilities": np.nan, "uncertainty": UNKNOWN}
        probabilities = any(layer.name == "probabilities" for layer in journal.layers)
        self.only_labels = tiling.blend == "none" and not probabilities and uncertainty is None
        self.blender = Blender(
            self.rows,
            columns,
            num_classes,
            np.dtype(journal.layers[0].dtype),
            begin=begin,
            keep_probabilities=probabilities,
            uncertainty=uncertainty,
        )

    def take(self, item: _Predicted | _EndOfRow) -> None:
        """Take what the model gave, in the order of the tiles."""
        if isinstance(item, _EndOfRow):
            self._finish(item)
            return
        for tile, output in zip(item.tiles, item.outputs, strict=True):
            self.blender.add(item.number, tile, output)

    def _finish(self, end: _EndOfRow) -> None:
        finished = self.blender.finish(end.number)
        labels_RW, probabilities_RWK = finished.labels_RW, finished.probabilities_RWK
        row, done = self.rows[end.number], self.journal.next_row
        if row.first + len(labels_RW) <= done:  # done again for what later rows need of it
            return
        assert done >= row.first
        labels_RW = labels_RW[done - row.first :]
        begin = done - row.start
        arrays: dict[str, NDArray[Any]] = {"labels": labels_RW}
        if probabilities_RWK is not None:
            arrays["probabilities"] = probabilities_RWK[done - row.first :]
        if finished.uncertainty_RW is not None:
            arrays["uncertainty"] = finished.uncertainty_RW[done - row.first :]
        if end.wanted_HW is not None:
            unwanted_RW = ~end.wanted_HW[begin : begin + len(labels_RW)]
            for name, array in arrays.items():
                array[unwanted_RW] = self.without_data[name]
        self.journal.append(arrays, self._counts(labels_RW))

    def _counts(self, labels_RW: NDArray[np.integer]) -> dict[str, Any]:
        ids = np.append(np.arange(self.num_classes), self.nodata)
        counts = class_map.counts_by_row(labels_RW, ids).sum(axis=0)
        changed = at_seams = 0
        for some_RW in class_map.in_cache(labels_RW):
            changes_RW = some_RW[:, 1:] != some_RW[:, :-1]
            changed += int(np.count_nonzero(changes_RW))
            at_seams += int(np.count_nonzero(changes_RW[:, self.seams - 1]))
        num_seams = len(labels_RW) * len(self.seams)
        others = len(labels_RW) * (labels_RW.shape[1] - 1) - num_seams
        return {
            "pixels": counts[:-1].tolist(),
            "nodata": int(counts[-1]),
            "seams": [num_seams, at_seams],
            "elsewhere": [others, changed - at_seams],
        }


def tally(lines: Iterable[Mapping[str, Any]], num_classes: int) -> Tally:
    """Sum what the journals of a scene note of their rows."""
    pixels_K = np.zeros(num_classes, np.int64)
    nodata, seams, elsewhere = 0, np.zeros(2, np.int64), np.zeros(2, np.int64)
    for line in lines:
        pixels_K += np.array(line["pixels"], np.int64)
        nodata += line["nodata"]
        seams += line["seams"]
        elsewhere += line["elsewhere"]
    return Tally(
        pixels_K, nodata, (int(seams[0]), int(seams[1])), (int(elsewhere[0]), int(elsewhere[1]))
    )
