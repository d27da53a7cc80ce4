"""Files that are no files: pipes, sockets and devices, which may never end or never answer."""

from __future__ import annotations

import stat
from pathlib import Path

from terrazzo.base.errors import DataError

_KINDS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def refuse_special(path: Path, mode: int) -> None:
    """Refuse what must not even be opened: a pipe without a writer would wait for one.

    Args:
        path: for the message.
        mode: ``st_mode`` of the file.

    Raises:
        DataError: SEG-D013.
    """
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        raise DataError(
            "SEG-D013",
            "cannot read the file",
            file=path,
            observed=f"it is {kind}",
            allowed="a regular file",
            next_step="put the image itself there, or take this out of the data",
        )
