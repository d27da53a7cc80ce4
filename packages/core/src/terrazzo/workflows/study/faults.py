"""What is wrong with a study, collected so that all of it can be said at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from terrazzo.base.errors import TerrazzoError

Say = Callable[[str], None]


@dataclass
class Faults:
    """What was found, each fault once, with the run that it was found in."""

    errors: list[TerrazzoError] = field(default_factory=list)

    @contextmanager
    def of(self, run: str) -> Iterator[None]:
        """Collect what the block raises."""
        try:
            yield
        except TerrazzoError as error:
            self.add(error, run)

    def add(self, error: TerrazzoError, run: str) -> None:
        """Keep an error of a run, unless it is known."""
        if not any(str(error) == str(other) for other in self.errors):
            self.errors.append(error)
            if run:
                error.add_note(run)

    def refuse(self, say: Say, when: str) -> None:
        """Raise the first fault, with those behind it said before.

        Args:
            say: told of every fault but the first.
            when: they were found, for the line that counts them.

        Raises:
            TerrazzoError: the first fault.
        """
        if not self.errors:
            return
        first, *others = (_of_run(error) for error in self.errors)
        for error in others:
            say(f"also wrong: {error}")
        if others:
            say(f"{len(others) + 1} faults found {when}; the first of them:")
        raise first


def _of_run(error: TerrazzoError) -> TerrazzoError:
    """Return the error with the name of the run it was found in."""
    notes = getattr(error, "__notes__", [])
    if not notes:
        return error
    values = error.as_json()
    values["problem"] = f"run {notes[0]!r}: {error.problem}"
    return TerrazzoError.from_json(values)
