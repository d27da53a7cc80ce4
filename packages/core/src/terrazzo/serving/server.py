"""A model on a port, until a signal ends it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import cv2

from terrazzo.base.config_parsing import StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.base.progress import Progress
from terrazzo.inference.model import load_model
from terrazzo.serving.app import Application, create_app
from terrazzo.serving.settings import ServeSettings

_SECONDS_TO_FINISH = 10
"""That requests at work have after a signal, before they are given up."""


def serve(
    model: StrPath,
    settings: ServeSettings,
    progress: Progress,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a model until SIGINT or SIGTERM; requests at work are finished first.

    Args:
        model: a run folder, its ``model/``, or an exported folder.
        settings: where to listen, and limits.
        progress: told of what a person should know.
        ready: told the address once requests are taken.

    Raises:
        ConfigError: SEG-X003, the extra is not installed; SEG-X085, the address cannot be taken.
        CheckpointError: as `load_model`.
    """
    uvicorn = _uvicorn()
    with closing(_listening(settings)) as listener:
        if not settings.is_loopback:
            progress.say(
                f"warning: whoever reaches {settings.host} can use this server: there is no "
                "authentication and no encryption; put a proxy before it (docs/serving.md)"
            )
        loaded = load_model(
            model, runtime=settings.runtime, precision=settings.precision, progress=progress
        )
        cv2.setNumThreads(0)  # each request has a thread of its own
        app = create_app(loaded, settings, progress.say)
        try:
            _run(uvicorn, app, listener, lambda: ready(_address(listener)))
        finally:
            app.close()


def _run(
    uvicorn: Any, app: Application, listener: socket.socket, ready: Callable[[], None]
) -> None:
    """Run uvicorn until a signal; what it has begun is finished first."""

    class Server(uvicorn.Server):  # type: ignore[misc]
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # Not uvicorn's own: it raises the signal again, and a stop on request is no failure.
            with _stopping(self):
                yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            ready()

    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    Server(config).run(sockets=[listener])


@contextmanager
def _stopping(server: Any) -> Iterator[None]:
    """Have SIGINT and SIGTERM stop a server; the second waits for nobody, the third kills."""

    def stop(number: int, _: FrameType | None) -> None:
        if server.should_exit:
            server.force_exit = True
            signal.signal(number, signal.SIG_DFL)
        server.should_exit = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listening(settings: ServeSettings) -> socket.socket:
    """Return a socket at the address, before the model is loaded.

    Raises:
        ConfigError: SEG-X085.
    """
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            "SEG-X085",
            "the server cannot listen at this address",
            observed=f"{settings.host} port {settings.port}: {getattr(error, 'strerror', error)}",
            allowed="an address of this machine, and a port that no other program has",
            next_step="choose another with --port (0 takes a free one) or --host",
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _uvicorn() -> Any:
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            "SEG-X003",
            "`terrazzo serve` needs uvicorn, which is not installed",
            observed=error,
            next_step="pip install 'terrazzo[serve]'",
        ) from error
    return uvicorn
