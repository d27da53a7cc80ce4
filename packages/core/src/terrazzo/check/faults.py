"""Files that cannot be used: unreadable, truncated, of two sizes, without a partner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from terrazzo.check.finding import Finding, Level
from terrazzo.check.survey import Picture, Survey


def find(survey: Survey) -> Iterator[Finding]:
    """Yield what kept files out, labels of another size, pictures of another type."""
    yield from survey.faults
    for picture in survey.pictures:
        yield from picture.faults
        if picture.image is None or picture.label is None:
            continue
        image, label = picture.image, picture.label
        if (image.rows, image.columns) != (label.rows, label.columns):
            yield Finding(
                Level.ERROR,
                "SEG-D009",
                "image and mask differ in size",
                picture.label_file,
                f"mask {label.rows}×{label.columns} (rows×columns), image "
                f"{image.rows}×{image.columns} in {picture.image_file}",
                "the same rows and columns",
                "export the mask again at the size of its image",
            )
    yield from _mixed_types(survey)


def _mixed_types(survey: Survey) -> Iterator[Finding]:
    readable = [(p, p.image) for p in survey.pictures if p.image is not None]
    types = Counter(image.dtype for _, image in readable)
    if len(types) < 2:
        return
    usual = types.most_common(1)[0][0]
    for picture, image in readable:
        if image.dtype != usual:
            yield _other_type(picture, image.dtype, usual, types[usual])


def _other_type(picture: Picture, dtype: str, usual: str, count: int) -> Finding:
    return Finding(
        Level.ERROR,
        "SEG-D021",
        "the pictures have different types",
        picture.image_file,
        f"{dtype}, largest value {max(picture.image.high) if picture.image else 0:g}",
        f"{usual}, as in {count} other pictures",
        "convert the picture from its original again; one that was clipped to 8 bits has lost its "
        "bright values",
    )
