"""One thing that is wrong, or worth knowing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from terrazzo.base.errors import TerrazzoError


class Level(IntEnum):
    """How bad it is; the lowest number is the worst."""

    ERROR = 0
    """Training must not start."""
    WARNING = 1
    """Training would work, and the result may not be what was meant."""
    NOTE = 2
    """Worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in one file, or in the data set as a whole.

    Attributes:
        level: how bad it is.
        code: stable code such as ``SEG-D001``.
        problem: one line, the same for every file that has it.
        file: the file or folder.
        observed: the value found, with count and place.
        allowed: what would have been right.
        next_step: what to do.
    """

    level: Level
    code: str
    problem: str
    file: str
    observed: str
    allowed: str
    next_step: str

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON holds it."""
        return {**asdict(self), "level": self.level.name.lower()}

    def as_line(self) -> str:
        """Return the finding as a run says it, in one line."""
        return (
            f"{self.level.name.lower()} {self.code}: {self.problem}: {self.file}: {self.observed}; "
            f"{self.next_step}"
        )


def of_error(error: TerrazzoError, file: object = "") -> Finding:
    """Return the finding an error stands for; `file` where the error names none."""
    return Finding(
        Level.ERROR,
        error.code,
        error.problem,
        error.file or str(file),
        str(error.observed or ""),
        str(error.allowed or ""),
        error.next_step or "",
    )
