"""The application: ASGI 3, spoken to by any server of that kind; `server` runs it on uvicorn.

No framework of the web stands between: a request is one body and a few headers, and the limits are
what matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from terrazzo.base import printable
from terrazzo.base.errors import TerrazzoError
from terrazzo.inference.model import Model
from terrazzo.serving import answers, page, prediction, refusals
from terrazzo.serving.answers import Answer, Wanted
from terrazzo.serving.batching import Batcher
from terrazzo.serving.deadline import Deadline, TooLate
from terrazzo.serving.settings import ServeSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MEDIA_TYPES = ("image/png", "image/jpeg", "image/tiff", "application/octet-stream")
"""What a body may call itself; its content decides what it is."""

_SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
_NOTHING_ALLOWED = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_DRAIN_SECONDS = 2


class Application:
    """One model behind HTTP; see `create_app`."""

    def __init__(self, model: Model, settings: ServeSettings, say: Callable[[str], None]) -> None:
        self.card, self.settings = model.card, settings
        self.batcher = Batcher(model.trainer, settings, say)
        self._say = say
        self._open = 0
        self._threads = ThreadPoolExecutor(settings.batch, thread_name_prefix="terrazzo-request")
        self._pages = {
            "/": page.answer(model.card, settings),
            "/model": answers.json_answer(answers.card_as_json(model.card, settings)),
            "/health": answers.json_answer({"status": "ok"}),
        }

    def close(self) -> None:
        """Give up what is left of requests, and end the threads."""
        self.batcher.close()
        self._threads.shutdown(cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, self.close)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        answer = await self._answer(scope, _Incoming(receive))
        if answer is not None:
            await _send(answer, scope, send)

    async def _answer(self, scope: Scope, receive: _Incoming) -> Answer | None:
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        try:
            self._refuse_foreign(headers, scope["path"])
            return await self._route(scope, headers, receive)
        except TerrazzoError as error:
            found = refusals.answer_to(error)
            if found.status == 500:
                self._say(str(error))
            if found.status != 408:
                await receive.drain(self.settings.max_bytes)
            return found
        except Exception:
            self._say(printable.lines(traceback.format_exc()))
            return refusals.failed()

    def _refuse_foreign(self, headers: dict[str, str], path: str) -> None:
        """Refuse what a page from elsewhere makes a browser ask."""
        host = headers.get("host", "")
        if not self.settings.answers_to(_name_of(host)):
            raise refusals.foreign("Host", host)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise refusals.foreign("Origin", origin)
        # A link from elsewhere may lead to the page, but nowhere else.
        if path != "/" and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise refusals.foreign("Sec-Fetch-Site", headers["sec-fetch-site"])

    async def _route(
        self, scope: Scope, headers: dict[str, str], receive: _Incoming
    ) -> Answer | None:
        path, method = scope["path"], scope["method"]
        allowed = ("POST",) if path == "/predict" else ("GET", "HEAD")
        if path != "/predict" and path not in self._pages:
            return refusals.no_such_request(404, "there is nothing at this path")
        if method not in allowed:
            allow = ("Allow", ", ".join(allowed))
            return refusals.no_such_request(405, f"this path takes {allow[1]}", allow)
        if path in self._pages:
            return self._pages[path]
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        what = answers.wanted(query, headers.get("accept", ""), self.card.label_map)
        _require_image(headers.get("content-type", ""))
        return await self._predict(what, headers, receive)

    async def _predict(
        self, what: Wanted, headers: dict[str, str], receive: _Incoming
    ) -> Answer | None:
        deadline = Deadline(self.settings.timeout)
        with self._admitted() as stays_until:
            body = await self._read_body(headers, receive, deadline)
            if body is None:
                return None
            job = self._threads.submit(self._work, body, what, deadline)
            stays_until(job)
            del body
            work = asyncio.wrap_future(job)
            work.add_done_callback(_look_at)
            gone = asyncio.ensure_future(_disconnected(receive))
            try:
                both: set[asyncio.Future[Any]] = {work, gone}
                await asyncio.wait(
                    both,
                    timeout=deadline.seconds_left,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if work.done():
                    return work.result()
            except TooLate:
                pass
            finally:
                gone.cancel()
                if not work.done():
                    deadline.call_off()
                    job.cancel()  # where it has not begun
            raise refusals.too_late(self.settings.timeout)

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[Callable[[Future[Answer]], None]]:
        """Count a request until its work has ended, not only until it is answered."""
        if self._open >= self.settings.queue:
            raise refusals.busy(self.settings.queue)
        self._open += 1
        loop = asyncio.get_running_loop()
        jobs: list[Future[Answer]] = []

        def leave() -> None:
            self._open -= 1

        try:
            yield jobs.append
        finally:
            if jobs:
                jobs[0].add_done_callback(lambda _: _call_soon(loop, leave))
            else:
                leave()

    async def _read_body(
        self, headers: dict[str, str], receive: _Incoming, deadline: Deadline
    ) -> bytes | None:
        """Return the body; None where the client has gone."""
        most = self.settings.max_bytes
        told = headers.get("content-length", "")
        if told.isascii() and told.isdigit() and int(told) > most:
            raise refusals.body_too_large(told, most)
        pieces, size = [], 0
        try:
            async with asyncio.timeout(deadline.seconds_left):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > most:
                        raise refusals.body_too_large("more", most)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise refusals.slow_body(self.settings.timeout) from None
        if size == 0:
            raise refusals.empty_body()
        return b"".join(pieces)

    def _work(self, body: bytes, what: Wanted, deadline: Deadline) -> Answer:
        """Do the work of a request, in a thread of its own."""
        deadline.require()
        if what.format == "preview":
            return answers.image_answer(prediction.preview(body, self.card, self.settings))
        found = prediction.predict_body(
            body, self.card, self.batcher, self.settings, deadline, what.train_id
        )
        deadline.require()
        return answers.answer(found, what, self.card)


def create_app(
    model: Model,
    settings: ServeSettings | None = None,
    say: Callable[[str], None] | None = None,
) -> Application:
    """Return the application that serves a model; give it to any ASGI server.

    Its `close` ends the threads that it begins here.

    Args:
        model: what is served; used by one thread of the application alone from now on.
        settings: limits; None: the defaults.
        say: told of faults and of what does not fit into memory; None: stderr.
    """
    return Application(model, settings or ServeSettings(), say or _to_stderr)


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{printable.lines(text)}\n")


def _name_of(host: str) -> str:
    """Return the name in a ``Host`` header, without its port and without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _require_image(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() not in MEDIA_TYPES:
        raise refusals.wrong_type(content_type, ", ".join(MEDIA_TYPES))


async def _disconnected(receive: _Incoming) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _look_at(work: asyncio.Future[Answer]) -> None:
    """Look at an error that nobody waits for, or asyncio complains."""
    if not work.cancelled():
        work.exception()


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(call)


class _Incoming:
    """What comes in of one request."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._ended = receive, False

    async def __call__(self) -> MutableMapping[str, Any]:
        """Wait for the next message of ASGI."""
        message = await self._receive()
        self._ended = not message.get("more_body", False)
        return message

    async def drain(self, most: int) -> None:
        """Throw away a body that was refused: a client that still sends would see no answer."""
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._ended and size <= most:
                    size += len((await self()).get("body", b""))


async def _send(answer: Answer, scope: Scope, send: Send) -> None:
    headers = [
        ("Content-Type", answer.media_type),
        ("Content-Length", str(len(answer.body))),
        *_SECURITY_HEADERS,
        *answer.headers,
    ]
    if not any(name == "Content-Security-Policy" for name, _ in answer.headers):
        headers.append(("Content-Security-Policy", _NOTHING_ALLOWED))
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers],
        }
    )
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send, close: Callable[[], None]) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            close()
            await send({"type": "lifespan.shutdown.complete"})
            return
