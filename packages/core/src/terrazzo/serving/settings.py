"""What a server is asked for, and its limits."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field

from terrazzo.base.config_parsing import Count, Frozen
from terrazzo.models.runtimes import ComputePrecision

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class ServeSettings(Frozen):
    """How a model is served.

    Limits that a request meets are answered with a status and a code, never with a wait without
    end.
    """

    host: str = "127.0.0.1"
    """Address to listen at."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 takes one that is free."""
    max_bytes: Count = 64 << 20
    """Of the body of a request."""
    max_pixels: Count = 1 << 24
    """Rows × columns of an image, by its header, before anything is decoded."""
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Seconds from the head of a request to its answer, its upload included."""
    queue: Count = 32
    """Requests that may be worked on or wait; one more is told to come again."""
    batch: Count = 8
    """Images, or tiles of them, of one size in one forward pass, of whatever requests."""
    batch_milliseconds: Annotated[float, Field(ge=0, le=1000)] = 4.0
    """How long the first image of a batch waits for others."""
    batch_pixels: Count = 1 << 22
    """Rows × columns × images of one forward pass, where a batch has more than one image."""
    allow_hosts: tuple[str, ...] = ()
    """Names, beside those of loopback, by which requests may call this server."""
    any_pixel_size: bool = False
    """Take pixels of another size on the ground than those of training."""
    runtime: str | None = None
    """What computes the model; None: the framework of a run, the runtime an export is for."""
    precision: ComputePrecision | None = None
    """Of its arithmetic; None: that of training, or float32."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def answers_to(self, name: str) -> bool:
        """Tell whether a request may call this server by a name, given without a port.

        A page from elsewhere can make a browser ask under the page's own name for this machine's
        address: so no name is taken that was not given. Addresses are safe where the server
        listens to others than this machine, for a page cannot have one as its name.

        Args:
            name: of the ``Host`` header, without its port and without brackets.
        """
        name = name.lower()
        if name in _LOOPBACK_NAMES or name in {each.lower() for each in self.allow_hosts}:
            return True
        if self.is_loopback:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == self.host.lower()
        return True
