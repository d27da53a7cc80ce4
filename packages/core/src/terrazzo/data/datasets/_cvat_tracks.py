"""Tracks of "CVAT for video 1.1", frame by frame; nothing is interpolated here.

CVAT writes each object of each frame, those between key frames too, and marks the frame after its
last one as ``outside``. A track with frames left out is refused: what CVAT would draw there is not
in the file.
"""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._annotation_files import Fields, not_readable

_FRAME = re.compile(r"(?:.*/)?frame_(\d+)")
"""What CVAT calls the picture of a frame, without its suffix."""
_STEP = re.compile(r"step\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Tracks:
    """The objects of a video.

    Attributes:
        size: rows and columns of its frames.
        shapes: kind and fields of each object that is to be seen, by frame, in the file's order.
        labels: classes of the tracks in their order.
        last: the last frame that the file tells of.
    """

    size: tuple[int, int]
    shapes: Mapping[int, tuple[tuple[str, Fields], ...]]
    labels: tuple[str, ...]
    last: int


def read_tracks(top: ElementTree.Element, path: Path) -> Tracks:
    """Read the tracks of a file.

    Raises:
        DataError: SEG-D111, it contradicts itself, or states no size; SEG-D143, a track has frames
            left out.
    """
    step = _step(top)
    last = _last(top, path)
    found: dict[int, list[tuple[str, Fields]]] = {}
    labels: dict[str, None] = {}
    for number, track in enumerate(top.iterfind("track")):
        place = f"track {track.get('id', number)!r}"
        label = Fields(track.attrib, path, place).text("label")
        labels[label] = None
        seen: list[tuple[int, bool]] = []
        for each in track:
            fields = Fields({**each.attrib, "label": label}, path, place)
            frame = fields.whole("frame")
            fields.place = f"{place}, frame {frame}"
            is_outside = "outside" in fields and fields.whole("outside") != 0
            seen.append((frame, is_outside))
            if not is_outside:
                found.setdefault(frame, []).append((each.tag, fields))
        _refuse_gaps(seen, step, last, place, path)
    return Tracks(_size(top, path), {k: tuple(v) for k, v in found.items()}, tuple(labels), last)


def _size(top: ElementTree.Element, path: Path) -> tuple[int, int]:
    stated = top.find("meta//original_size")
    if stated is None:
        raise not_readable(path, "a file of tracks without <original_size>, which tells its pixels")
    values = {each.tag: (each.text or "").strip() for each in stated}
    return Fields(values, path, "meta.original_size").size("height", "width")


def _step(top: ElementTree.Element) -> int:
    found = _STEP.search(top.findtext("meta//frame_filter") or "")
    return max(int(found[1]), 1) if found else 1


def _last(top: ElementTree.Element, path: Path) -> int:
    """Return the last frame: that of the task, or the last one that a track tells of."""
    values = {"stop_frame": (top.findtext("meta//stop_frame") or "").strip()}
    if values["stop_frame"]:
        return Fields(values, path, "meta").whole("stop_frame")
    frames = [each.get("frame", "") for each in top.iterfind("track/*")]
    return max((int(frame) for frame in frames if frame.isdecimal()), default=0)


def _refuse_gaps(
    seen: list[tuple[int, bool]], step: int, last: int, place: str, path: Path
) -> None:
    for (frame, is_outside), (following, _) in itertools.pairwise(seen):
        if following <= frame:
            raise not_readable(path, f"{place}: frame {following} stands after frame {frame}")
        if not is_outside and following - frame > step:
            raise _left_out(path, f"{place}: frame {frame}, then frame {following}")
    if seen and not seen[-1][1] and seen[-1][0] + step <= last:
        raise _left_out(path, f"{place}: frame {seen[-1][0]}, then nothing up to frame {last}")


def _left_out(path: Path, observed: str) -> DataError:
    return DataError(
        "SEG-D143",
        "a track has frames left out, and what lies between them is not in the file",
        file=path,
        observed=observed,
        allowed="each frame of an object, and the one after its last as outside",
        next_step='export the task from CVAT again, as "CVAT for images 1.1" or "CVAT for video '
        '1.1"',
    )


def frame_of(name: str) -> int | None:
    """Return the number of the frame that an image is of, by its name without suffix."""
    found = _FRAME.fullmatch(name)
    return None if found is None else int(found[1])


def refuse_missing(tracks: Tracks, frames: Collection[int], folder: Path, path: Path) -> None:
    """Refuse frames with objects that have no image.

    Raises:
        DataError: SEG-D014.
    """
    missing = sorted(tracks.shapes.keys() - set(frames))
    if missing:
        shown = ", ".join(f"frame_{frame:06d}" for frame in missing[:8])
        raise DataError(
            "SEG-D014",
            "images of frames with objects are missing",
            file=path,
            observed=f"{len(missing)} frames: {shown}" + (", …" if len(missing) > 8 else ""),
            allowed=f"images called frame_000000 and so on below {folder}",
            next_step="export with the images, or cut the video into frames of these names",
        )


def two_of_one_frame(images: Sequence[str], path: Path) -> DataError:
    """Compose the error for images that would all get the objects of one frame."""
    return DataError(
        "SEG-D014",
        "several images are of one frame, and the file is of one video",
        file=path,
        observed=", ".join(images[:8]),
        allowed="one image a frame",
        next_step="set data.options.images to the folder of this video; further videos are data "
        "sets of their own",
    )
