"""A served application on a free port of this machine, for tests over real HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from terrazzo.serving.app import Application


@contextmanager
def served(app: Application) -> Iterator[str]:
    """Run an application on uvicorn in a thread; yields its address, such as ``http://…:8000``."""
    import uvicorn  # an extra

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_level="critical",
                access_log=False,
                ws="none",
                timeout_graceful_shutdown=5,
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()
            app.close()
