"""Prediction of a scene that is larger than memory: tiles in, finished rows out.

Memory holds one row of tiles, with its probabilities, at a time: it grows with the tile and the
width of the scene, not with its height. A thread reads the next row of tiles while the model
works on this one; another blends, takes the best class and puts finished rows into a
`row_journal`. The GeoTIFF is written from there, so its bytes depend on the rows alone, however
often the work was killed and however many processes shared it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Count, Frozen
from terrazzo.inference import tiles
from terrazzo.inference.blending import Blender
from terrazzo.inference.row_journal import Layer, RowBand
from terrazzo.inference.threads import in_background, read_ahead
from terrazzo.inference.tiles import Blend, Share, first_open
from terrazzo.inference.uncertainty import NODATA as UNKNOWN
from terrazzo.inference.uncertainty import Measure
from terrazzo.io import rasters
from terrazzo.io.pixels import AS_STORED, ImagePixels, ReadingRules, mark_missing
from terrazzo.io.rasters import Part
from terrazzo.models.contract import Predictor
from terrazzo.models.memory import ForwardPasses


class Tiling(Frozen):
    """How a scene is cut into tiles."""

    tile: Count = 512
    """Rows and columns of a tile."""
    overlap: Annotated[int, Field(ge=0)] = 128
    """Rows and columns that two neighbours share at least; a quarter of it at each side of a seam
    is thrown away."""
    blend: Blend = "linear"
    """How neighbours are mixed; ``none`` takes each pixel from one tile."""
    batch_size: Count = 4
    """Tiles a forward pass."""

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
class _Strip:
    """The scene's rows under one row of tiles.

    Attributes:
        number: of the row of tiles.
        pixels: of the columns from `left` on that tiles may lie on.
        left: first column of them.
        wanted_HW: where the scene holds data that shall be predicted; all columns.
    """

    number: int
    pixels: ImagePixels
    left: int
    wanted_HW: NDArray[np.bool_]

    def under(self, share: Share) -> NDArray[Any]:
        """Return the pixels under one tile as models are shown them."""
        columns = np.s_[:, share.start - self.left : share.stop - self.left]
        image_HWC, _, present_HWC = self.pixels
        if present_HWC is None:
            return image_HWC[columns]
        return mark_missing(image_HWC[columns], present_HWC[columns])


@dataclass(frozen=True, slots=True)
class _Predicted:
    """What a batch of tiles gave, by their numbers; tiles without data are left out of it."""

    number: int
    tiles: tuple[int, ...]
    outputs: NDArray[Any]


@dataclass(frozen=True, slots=True)
class _EndOfStrip:
    number: int
    wanted_HW: NDArray[np.bool_]


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
    with (
        rasters.small_cache(rasters.blocks_kept(bands_of, size)),
        closing(read_ahead(_strips(scene, rows, columns, range(begin, stop)), say)) as strips,
        in_background(keeper.take) as put,
    ):
        for strip in strips:
            for batch in _batches(strip, rows[strip.number], columns, tiling.batch_size):
                images_BHWC = np.stack([strip.under(columns[tile]) for tile in batch])
                put(_Predicted(strip.number, batch, predict(images_BHWC)))
            put(_EndOfStrip(strip.number, strip.wanted_HW))
            if touches(scene.area, rows[strip.number]):
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


def _strips(
    scene: Scene, rows: tuple[Share, ...], columns: tuple[Share, ...], numbers: range
) -> Iterator[_Strip]:
    """Read the rows of each row of tiles; rows that two of them share are read once.

    Of a scene with an area only those columns and rows are read that tiles lie on.
    """
    width = scene.info.columns
    left, right = _columns_to_read(scene.area, columns)
    before: ImagePixels | None = None
    for number in numbers:
        share = rows[number]
        if not touches(scene.area, share):
            before = None
            nothing_HW = np.zeros((share.stop - share.start, width), bool)
            yield _Strip(number, ImagePixels(np.empty(0)), left, nothing_HW)
            continue
        kept = 0 if before is None else rows[number - 1].stop - share.start
        first = share.start + kept
        new = scene.read((first, left, share.stop - first, right - left))
        before = _below(before, kept, new) if before is not None and kept else new
        assert before.valid_HW is not None
        yield _Strip(number, before, left, _wanted(scene.area, share, before.valid_HW, left, width))


def _columns_to_read(area: rasters.AreaRows | None, columns: tuple[Share, ...]) -> tuple[int, int]:
    if area is None:
        return 0, columns[-1].stop
    first, last = area.columns
    under = [share for share in columns if share.first < last and share.last > first]
    return under[0].start, under[-1].stop


def _wanted(
    area: rasters.AreaRows | None, share: Share, valid_HW: NDArray[np.bool_], left: int, width: int
) -> NDArray[np.bool_]:
    if area is None:
        return valid_HW
    wanted_HW = area.rows(share.start, share.stop)
    right = left + valid_HW.shape[1]
    assert not wanted_HW[:, :left].any()
    assert not wanted_HW[:, right:width].any()
    wanted_HW[:, left:right] &= valid_HW
    return wanted_HW


def _below(above: ImagePixels, kept: int, new: ImagePixels) -> ImagePixels:
    """Put new rows below the last `kept` ones of those above."""
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
        present_HWC = np.concatenate([presents[0][-kept:], presents[1]])
    return ImagePixels(
        np.concatenate([above.image_HWC[-kept:], new.image_HWC]),
        np.concatenate([above.valid_HW[-kept:], new.valid_HW]),
        present_HWC,
    )


def _batches(
    strip: _Strip, row: Share, columns: tuple[Share, ...], batch_size: int
) -> Iterator[tuple[int, ...]]:
    """Group the tiles of a row that give anything to a pixel that is wanted."""
    wanted_HW = strip.wanted_HW[row.first - row.start : row.last - row.start]
    filled = [
        number
        for number, share in enumerate(columns)
        if wanted_HW[:, share.first : share.last].any()
    ]
    for first in range(0, len(filled), batch_size):
        yield tuple(filled[first : first + batch_size])


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

    def take(self, item: _Predicted | _EndOfStrip) -> None:
        """Take what the model gave, in the order of the tiles."""
        if isinstance(item, _EndOfStrip):
            self._finish(item)
            return
        for tile, output in zip(item.tiles, item.outputs, strict=True):
            self.blender.add(item.number, tile, output)

    def _finish(self, end: _EndOfStrip) -> None:
        finished = self.blender.finish(end.number)
        labels_RW, probabilities_RWK = finished.labels_RW, finished.probabilities_RWK
        row, done = self.rows[end.number], self.journal.next_row
        if row.first + len(labels_RW) <= done:  # done again for what later rows need of it
            return
        assert done >= row.first
        labels_RW = labels_RW[done - row.first :]
        begin = done - row.start
        wanted_RW = end.wanted_HW[begin : begin + len(labels_RW)]
        if not wanted_RW.all():
            labels_RW[~wanted_RW] = self.nodata
        arrays: dict[str, NDArray[Any]] = {"labels": labels_RW}
        if probabilities_RWK is not None:
            probabilities_RWK = probabilities_RWK[done - row.first :]
            probabilities_RWK[~wanted_RW] = np.nan
            arrays["probabilities"] = probabilities_RWK
        if finished.uncertainty_RW is not None:
            arrays["uncertainty"] = finished.uncertainty_RW[done - row.first :]
            arrays["uncertainty"][~wanted_RW] = UNKNOWN
        self.journal.append(arrays, self._counts(labels_RW))

    def _counts(self, labels_RW: NDArray[np.integer]) -> dict[str, Any]:
        # Row by row, for NumPy makes eight bytes of each label that it counts.
        counts = np.zeros(self.nodata + 1, np.int64)
        for labels_W in labels_RW:
            counts += np.bincount(labels_W, minlength=len(counts))
        changes = labels_RW[:, 1:] != labels_RW[:, :-1]
        at_seams = int(np.count_nonzero(changes[:, self.seams - 1]))
        num_seams = len(labels_RW) * len(self.seams)
        return {
            "pixels": counts[: self.num_classes].tolist(),
            "nodata": int(counts[self.nodata]),
            "seams": [num_seams, at_seams],
            "elsewhere": [changes.size - num_seams, int(np.count_nonzero(changes)) - at_seams],
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
