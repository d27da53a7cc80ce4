"""What the data check says: one page of text, worst first, or the same as JSON."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from terrazzo.check.bands import BandRow
from terrazzo.check.coverage import ClassRow
from terrazzo.check.finding import Finding, Level

_SHOWN = 5  # files of one problem; JSON has them all
_WIDE = 400  # characters of one line


@dataclass(frozen=True)
class Report:
    """The outcome of one check.

    Attributes:
        root: folder of the data set.
        format: how its folders were read.
        images: number of images looked at, by split.
        reused: of these, files that had not changed since the last check.
        findings: worst first.
        classes: one row a class; empty without a label map.
        ignored_share: of the pixels with a known value.
        no_data_share: of the pixels of all images: those that hold no data, or that a mask takes
            away. Their labels count in none of the other shares.
        bands: one row a band.
        proposal: TOML of a label map that would fit, where the one in use does not.
        notes: what a format leaves out or takes for granted.
    """

    root: str
    format: str
    images: dict[str, int]
    reused: int
    findings: tuple[Finding, ...]
    classes: tuple[ClassRow, ...]
    ignored_share: float
    no_data_share: float
    bands: tuple[BandRow, ...]
    proposal: str | None
    notes: tuple[str, ...]

    @property
    def must_stop(self) -> bool:
        """Whether something was found that must be put right before training."""
        return any(finding.level is Level.ERROR for finding in self.findings)

    def number(self, level: Level) -> int:
        """Return how many findings are of one level."""
        return sum(finding.level is level for finding in self.findings)

    def as_json(self) -> str:
        """Return everything as one JSON object."""
        record: dict[str, Any] = asdict(self) | {
            "must_stop": self.must_stop,
            "findings": [finding.as_dict() for finding in self.findings],
        }
        # A byte of a file's name that is no UTF-8 becomes an escape, which JSON gives back.
        text = json.dumps(record, indent=1, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()

    def as_text(self) -> str:
        """Return the page for people."""
        counted = ", ".join(f"{split} {number}" for split, number in self.images.items())
        lines = [f"{self.root} as {self.format}: {counted or 'no image'}"]
        if self.reused:
            lines.append(f"{self.reused} images have not changed since the last check")
        lines += [f"note: {note}" for note in self.notes]
        for _, several in groupby(self.findings, key=_kind):
            lines += ["", *_problem(list(several))]
        if self.classes:
            lines += ["", *_class_table(self.classes, self.ignored_share, self.no_data_share)]
        lines += _band_table(self.bands)
        if self.proposal is not None:
            lines += ["", "a label map that would fit (save it, and name it in data.labels):", ""]
            lines += [f"    {line}".rstrip() for line in self.proposal.splitlines()]
        return "\n".join([*lines, "", self._verdict()])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.as_text())}</pre>"

    def _verdict(self) -> str:
        counts = ", ".join(
            f"{self.number(level)} {level.name.lower()}{'s' if self.number(level) != 1 else ''}"
            for level in Level
        )
        end = "put the errors right before training" if self.must_stop else "nothing stops training"
        return f"{counts}: {end}"


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Sort findings: by level, then problems with more files first, then by file."""
    sizes: dict[object, int] = {}
    for finding in findings:
        sizes[_kind(finding)] = sizes.get(_kind(finding), 0) + 1
    unique = dict.fromkeys(findings)
    return tuple(
        sorted(unique, key=lambda f: (f.level, -sizes[_kind(f)], _kind(f), f.file, f.observed))
    )


def _kind(finding: Finding) -> tuple[Level, str, str, str]:
    return finding.level, finding.code, finding.problem, finding.next_step


def _problem(several: list[Finding]) -> list[str]:
    first = several[0]
    many = f" ({len(several)} times)" if len(several) > 1 else ""
    lines = [f"{first.level.name.lower()} {first.code}: {first.problem}{many}"]
    for finding in several[:_SHOWN]:
        lines.append(f"  file     {finding.file}")
        lines.append(f"  found    {_cut(finding.observed or 'nothing')}")
    if len(several) > _SHOWN:
        lines.append(f"  and in {len(several) - _SHOWN} more files; --json lists them all")
    if first.allowed:
        lines.append(f"  allowed  {_cut(first.allowed)}")
    return [*lines, f"  next     {first.next_step}"]


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[:_WIDE]} … (--json has all of it)"


def _class_table(
    classes: tuple[ClassRow, ...], ignored_share: float, no_data_share: float
) -> list[str]:
    if not classes:
        return []
    splits = list(classes[0].image_share)
    width = max(len("(ignored)"), *(len(row.name) for row in classes))
    head = "".join(f"{split:>9}" for split in splits)
    return [
        f"{'class':<{width}}   pixels{head}  weight",
        *(
            f"{row.name:<{width}}{_percent(row.pixel_share):>9}"
            + "".join(f"{_percent(row.image_share[split]):>9}" for split in splits)
            + f"{row.weight:>8.3g}"
            for row in classes
        ),
        f"{'(ignored)':<{width}}{_percent(ignored_share):>9}",
        *([f"{'(no data)':<{width}}{_percent(no_data_share):>9}"] if no_data_share else []),
        "by split: share of the images that hold the class; weight: median frequency in train",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _band_table(bands: tuple[BandRow, ...]) -> list[str]:
    if not bands:
        return []
    width = max(len("band"), *(len(row.name) for row in bands))
    return [
        "",
        f"{'band':<{width}}{'mean':>11}{'std':>11}{'low':>11}{'high':>11}",
        *(
            f"{row.name:<{width}}"
            + "".join(f"{value:>11.5g}" for value in (row.mean, row.std, row.low, row.high))
            for row in bands
        ),
    ]
