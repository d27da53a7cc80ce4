"""Files that cannot be used: unreadable, truncated, of two sizes, without a partner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey


def find(survey: Survey) -> Iterator[Finding]:
    """Yield what kept files out, labels of another size, images of another type."""
    yield from survey.faults
    for scanned in survey.scanned_images:
        yield from scanned.faults
        if scanned.image is None or scanned.label is None:
            continue
        image, label = scanned.image, scanned.label
        if (image.rows, image.columns) != (label.rows, label.columns):
            yield Finding(
                Level.ERROR,
                "SEG-D009",
                "image and mask differ in size",
                scanned.label_file,
                f"mask {label.rows}×{label.columns} (rows×columns), image "
                f"{image.rows}×{image.columns} in {scanned.image_file}",
                "the same rows and columns",
                "export the mask again at the size of its image",
            )
    yield from _mixed_types(survey)


def _mixed_types(survey: Survey) -> Iterator[Finding]:
    readable = [(p, p.image) for p in survey.scanned_images if p.image is not None]
    types = Counter(image.dtype for _, image in readable)
    if len(types) < 2:
        return
    usual = types.most_common(1)[0][0]
    for scanned, image in readable:
        if image.dtype != usual:
            yield _other_type(scanned, image.dtype, usual, types[usual])


def _other_type(scanned: ScannedImage, dtype: str, usual: str, count: int) -> Finding:
    return Finding(
        Level.ERROR,
        "SEG-D021",
        "the images have different types",
        scanned.image_file,
        f"{dtype}, largest value {max(scanned.image.high) if scanned.image else 0:g}"
        f"{scanned.place}",
        f"{usual}, as in {count} other images",
        "convert the image from its original again; one that was clipped to 8 bits has lost its "
        "bright values",
    )
