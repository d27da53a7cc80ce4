"""Every error a user can cause. Each says what was given, what is allowed and what to do next.

`code` is stable and may be searched for; `exit_code` is what the command line returns.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path


class TerrazzoError(Exception):
    """Root of all errors for users.

    Args:
        code: stable code such as ``SEG-D001``.
        problem: one line, what is wrong.
        file: the file it is about.
        observed: what was found there.
        allowed: what would have been right.
        next_step: what the user should do.
    """

    exit_code = 1
    shared = False
    """Whether all processes of a training raise it, because one of them met it."""
    told_elsewhere = False
    """Whether another process prints it, so that this one need not."""

    def __init__(
        self,
        code: str,
        problem: str,
        *,
        file: str | Path | None = None,
        observed: object = None,
        allowed: object = None,
        next_step: str | None = None,
    ) -> None:
        self.code = code
        self.problem = problem
        self.file = None if file is None else str(file)
        self.observed = observed
        self.allowed = allowed
        self.next_step = next_step
        lines = [f"{code}: {problem}"]
        for title, value in (
            ("file", self.file),
            ("observed", observed),
            ("allowed", allowed),
            ("next", next_step),
        ):
            if value is not None:
                lines.append(f"  {title:<9}{value}")
        super().__init__("\n".join(lines))

    def as_json(self) -> dict[str, str | None]:
        """Return all that `from_json` needs, for another process."""
        texts = {
            name: None if (value := getattr(self, name)) is None else str(value)
            for name in ("file", "observed", "allowed", "next_step")
        }
        return {"kind": type(self).__name__, "code": self.code, "problem": self.problem, **texts}

    @staticmethod
    def from_json(answer: dict[str, str | None]) -> TerrazzoError:
        """Make the error of `as_json` again."""
        kind, code, problem, *texts = answer.values()
        kinds: dict[str | None, type[TerrazzoError]] = {c.__name__: c for c in _all_kinds()}
        assert code is not None
        assert problem is not None
        file, observed, allowed, next_step = texts
        return kinds.get(kind, TerrazzoError)(
            code, problem, file=file, observed=observed, allowed=allowed, next_step=next_step
        )

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call __init__ with the composed message only; reader threads and
        # processes copy errors.
        return (_rebuild, (type(self), self.__dict__ | {"args": self.args}))


def _all_kinds(kind: type[TerrazzoError] = TerrazzoError) -> Iterator[type[TerrazzoError]]:
    yield kind
    for special in kind.__subclasses__():
        yield from _all_kinds(special)


def _rebuild(cls: type[TerrazzoError], state: dict[str, object]) -> TerrazzoError:
    error = cls.__new__(cls)
    error.args = state.pop("args")  # type: ignore[assignment]
    error.__dict__.update(state)
    return error


class ConfigError(TerrazzoError, ValueError):
    """A recipe, an option or a command-line argument is wrong (``SEG-X…``)."""

    exit_code = 2


class DataError(TerrazzoError, ValueError):
    """An image, a mask or a folder of them is wrong (``SEG-D…``)."""

    exit_code = 3


class InputSizeError(DataError):
    """A model cannot take this height and width; names a size it can take."""


class CheckpointError(TerrazzoError, ValueError):
    """A run folder, a checkpoint or a model folder is wrong (``SEG-C…``)."""

    exit_code = 4


class ResourceError(TerrazzoError, OSError):
    """The machine lacks something: disk, memory, a device (``SEG-R…``)."""

    exit_code = 5


class NonFiniteLossError(TerrazzoError, ArithmeticError):
    """The loss is NaN or infinite; raised before the weights are touched (``SEG-R008``)."""

    exit_code = 6


class Stopped(TerrazzoError):  # noqa: N818 - a stop on request is not an error
    """A signal asked the run to stop; its state is saved and ``--resume`` goes on."""

    exit_code = 75


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``did you mean 'x'? `` for the closest choice, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> ConfigError:
    """Compose the error for a name that is not one of `choices`."""
    known = sorted(choices)
    return ConfigError(
        "SEG-X004",
        f"unknown {kind} {name!r}",
        observed=name,
        allowed=", ".join(known) or "(none found)",
        next_step=f"{did_you_mean(name, known)}choose one of the names above",
    )
