"""Files that are either complete under their own name or not there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from terrazzo.errors import ResourceError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it when the block ends well.

    Readers see the old file or the new one, never half of one. The suffix is kept, since writers
    choose their format by it.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; `path` is untouched.
    """
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, ResourceError):
            raise
        raise ResourceError(
            "SEG-R004",
            "cannot write the file",
            file=path,
            observed=error.strerror or error,
            next_step="free space or choose another folder; nothing was changed",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
