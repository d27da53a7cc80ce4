"""The faults that users meet, a row each, for every backend; see `docs/faults.md`.

The rows lie in modules by what is at fault. Importing this package fills `ROWS`.
"""

from terrazzo.testing.faults import (
    checkpoints,
    configuration,
    data,
    prediction,
    resources,
    scenes,
    security,
)
from terrazzo.testing.faults.table import KEPT, ROWS, Outcome, Place, Row, check_row

__all__ = [
    "KEPT",
    "ROWS",
    "Outcome",
    "Place",
    "Row",
    "check_row",
    "checkpoints",
    "configuration",
    "data",
    "prediction",
    "resources",
    "scenes",
    "security",
]
