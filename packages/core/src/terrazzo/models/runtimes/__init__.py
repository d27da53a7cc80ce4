"""Exported models in the runtimes that run them without their framework.

One module a runtime, each with a class that is a `terrazzo.models.session.Session`; `open_session`
chooses it.
`predictor.SessionPredictor` makes of a session what the rest of the product predicts with.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from terrazzo.base.errors import ConfigError

if TYPE_CHECKING:
    from terrazzo.models.exporter import GraphForm
    from terrazzo.models.session import Session

ComputePrecision = Literal["float32", "bfloat16"]
"""Of the arithmetic in a runtime; files of float16 and int8 have their own."""

RUNTIMES = {"openvino": "openvino", "onnxruntime": "onnx", "litert": "litert"}
"""The format that each runtime reads, by the runtime's name."""

_PACKAGES = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "litert": ("ai_edge_litert",),
}
_FILES = {"openvino": "model.xml", "onnxruntime": "model.onnx", "litert": "model.tflite"}
_EXTRAS = {"openvino": "cpu", "onnxruntime": "onnxruntime", "litert": "litert"}


def installed(runtime: str) -> bool:
    """Tell whether all packages of a runtime are there, without importing any."""
    return all(importlib.util.find_spec(package) for package in _PACKAGES[runtime])


def require(runtime: str) -> None:
    """Refuse a runtime that is not installed.

    Raises:
        ConfigError: SEG-X081, with the pip line.
    """
    missing = [name for name in _PACKAGES[runtime] if not importlib.util.find_spec(name)]
    if missing:
        raise ConfigError(
            "SEG-X081",
            f"the runtime {runtime!r} is not installed",
            observed=f"no package {', '.join(missing)}",
            allowed=", ".join(name for name in RUNTIMES if installed(name)) or "(none is)",
            next_step=f"pip install 'terrazzo[{_EXTRAS[runtime]}]'",
        )


def version(runtime: str) -> str:
    """Return the version of a runtime that is installed."""
    return metadata.version(_PACKAGES[runtime][0].replace("_", "-"))


def open_session(
    runtime: str,
    folder: Path,
    form: GraphForm,
    *,
    precision: ComputePrecision = "float32",
    fixed_size: tuple[int, int] | None = None,
) -> Session:
    """Open the file of an exported folder.

    Args:
        runtime: one of `RUNTIMES`.
        folder: an exported folder, whose files have been verified.
        form: of its graph.
        precision: of the arithmetic.
        fixed_size: rows and columns that most images will have: what a runtime prepares for one
            size may be faster.

    Raises:
        ConfigError: SEG-X081, it is not installed; SEG-X083, the processor or the runtime cannot
            compute in this precision.
    """
    require(runtime)
    module = importlib.import_module(f"{__name__}.{runtime}_session")
    session: Session = module.open_session(
        folder / _FILES[runtime], form, precision=precision, fixed_size=fixed_size
    )
    return session


def threads() -> int:
    """Return how many threads a runtime is given: ``OMP_NUM_THREADS``, else every core of ours."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def accelerator_present() -> bool:
    """Tell whether a GPU seems to be here, without importing a framework."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(Path(f"/dev/{name}").exists() for name in ("nvidia0", "nvidiactl", "dxg", "kfd"))


def refuse_precision(
    runtime: str, precision: str, observed: str, allowed: str = "float32"
) -> ConfigError:
    """Compose the error for a precision that is not there."""
    return ConfigError(
        "SEG-X083",
        f"{runtime} cannot compute in {precision} here",
        observed=observed,
        allowed=allowed,
        next_step="leave --precision away",
    )
