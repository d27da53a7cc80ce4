"""OpenVINO's converter, told to send nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def convert(source: Any, **options: Any) -> Any:
    """Return what `openvino.convert_model` makes of a model.

    The converter reports to its makers over the network each time, unless it runs in continuous
    integration or the user has declined. Nobody was asked here, so nothing is sent.
    """
    import openvino

    with _as_in_continuous_integration():
        return openvino.convert_model(source, **options)


@contextmanager
def _as_in_continuous_integration() -> Iterator[None]:
    kept = os.environ.get("CI")
    os.environ["CI"] = "true"  # what the converter looks for
    try:
        yield
    finally:
        if kept is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = kept
