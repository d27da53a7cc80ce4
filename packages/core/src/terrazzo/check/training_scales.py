"""Whether training images have two scales, seen while their band statistics are taken."""

from __future__ import annotations

from dataclasses import dataclass, field

from terrazzo.check import bands, file_statistics
from terrazzo.check.scan import ScannedImage
from terrazzo.data.datasets import Split
from terrazzo.data.scene_placement import Placed
from terrazzo.io.pixels import ImagePixels


@dataclass
class TrainingScales:
    """Scales of the training images that were looked at.

    Attributes:
        train: the training split.
        scanned_images: what they are like.
    """

    train: Split
    scanned_images: list[ScannedImage] = field(default_factory=list)

    def look(self, index: int, pixels: ImagePixels) -> None:
        """Note what an image of the split is like, by a grid of its pixels."""
        source = self.train.source
        corner = source.place(index)[1:] if isinstance(source, Placed) else None
        image = file_statistics.of_image(pixels)
        name, files = source.names[index], source.files(index)
        self.scanned_images.append(
            ScannedImage(self.train.name, index, name, files, image, None, corner=corner)
        )

    def warning(self) -> str | None:
        """Return a line where some images have another scale than the others (SEG-D045)."""
        found = list(bands.find_two_scales(self.scanned_images))
        if not found:
            return None
        return (
            f"{found[0].as_line()} ({len(found)} of the {len(self.scanned_images)} training images "
            "that were looked at; `terrazzo check` looks at all)"
        )
