"""Errors as responses: the house's code and words, never a trace, never a path of this machine."""

from __future__ import annotations

from terrazzo.base.errors import ConfigError, DataError, ResourceError, TerrazzoError
from terrazzo.serving.answers import Answer, json_answer
from terrazzo.serving.prediction import as_told

_STATUS = {
    "SEG-D012": 415,  # another kind of file
    "SEG-D030": 415,
    "SEG-D031": 413,
    "SEG-D075": 413,
    "SEG-D076": 413,
    "SEG-D077": 415,
    "SEG-D078": 408,
    "SEG-D079": 413,
    "SEG-R006": 503,  # no memory for this image now
    "SEG-R065": 503,
    "SEG-R066": 504,
    "SEG-X003": 501,  # what an answer needs is not installed
    "SEG-X088": 403,
}
_LATER = {"SEG-R065", "SEG-R006"}


def answer_to(error: TerrazzoError) -> Answer:
    """Return the response to an error that a request has caused."""
    status = _STATUS.get(error.code) or _by_kind(error)
    fields: tuple[str, ...] = ("problem", "observed", "allowed", "next_step")
    if status == 500:  # of this machine: its log says more
        fields = ("problem",)
    told = {name: _told(getattr(error, name)) for name in fields}
    body = {"error": {"code": error.code, **{k: v for k, v in told.items() if v is not None}}}
    found = json_answer(body, status)
    headers = (("Retry-After", "1"),) if error.code in _LATER else ()
    return Answer(found.status, found.body, found.media_type, headers)


def failed() -> Answer:
    """Return the response where the fault is the program's."""
    problem = "the server failed at this request; its log says more"
    return json_answer({"error": {"code": "SEG-R067", "problem": problem}}, 500)


def no_such_request(status: int, problem: str, *headers: tuple[str, str]) -> Answer:
    """Return the response to a request for what is not there."""
    found = json_answer({"error": {"code": "SEG-X086", "problem": problem}}, status)
    return Answer(status, found.body, found.media_type, headers)


def _by_kind(error: TerrazzoError) -> int:
    if isinstance(error, DataError):
        return 422
    return 400 if isinstance(error, ConfigError) else 500


def _told(value: object) -> str | None:
    return None if value is None else as_told(str(value))


def body_too_large(observed: str, most: int) -> DataError:
    """Compose the error for a body of too many bytes."""
    return DataError(
        "SEG-D075",
        "the body has more bytes than this server takes",
        observed=f"{observed} bytes",
        allowed=f"{most} bytes",
        next_step="send a smaller image, or use `terrazzo predict`; --max-bytes sets the limit",
    )


def wrong_type(observed: str, allowed: str) -> DataError:
    """Compose the error for a body that does not say it is an image."""
    return DataError(
        "SEG-D077",
        "the Content-Type of the body is none of an image",
        observed=observed or "(none)",
        allowed=allowed,
        next_step="send the bytes of one file as the body, without multipart",
    )


def empty_body() -> DataError:
    """Compose the error for a body of no bytes."""
    return DataError(
        "SEG-D013",
        "the body is empty",
        observed="0 bytes",
        next_step="send the bytes of one file as the body",
    )


def slow_body(seconds: float) -> DataError:
    """Compose the error for a body that does not come."""
    return DataError(
        "SEG-D078",
        "the body did not come in time",
        allowed=f"{seconds:g} seconds",
        next_step="send a smaller image; --timeout sets the limit",
    )


def busy(queue: int) -> ResourceError:
    """Compose the error for one request too many."""
    return ResourceError(
        "SEG-R065",
        "the server has as many requests as it takes",
        observed=f"{queue} at work or waiting",
        next_step="ask again later; --queue sets the limit",
    )


def too_late(seconds: float) -> ResourceError:
    """Compose the error for an answer that was not there in time."""
    return ResourceError(
        "SEG-R066",
        "the answer was not there in time",
        allowed=f"{seconds:g} seconds",
        next_step="send a smaller image or ask again later; --timeout sets the limit",
    )


def foreign(header: str, observed: str) -> ConfigError:
    """Compose the error for a request that another page or name has led here."""
    return ConfigError(
        "SEG-X088",
        f"requests of this {header} are not answered",
        observed=observed or "(none)",
        allowed="the address that the server listens at, loopback names, and --allow-host names",
    )
