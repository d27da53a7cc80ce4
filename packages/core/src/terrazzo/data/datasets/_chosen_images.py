"""Some images of a source, in its order, as a source of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from terrazzo.data.datasets import Source


def whole(source: Source) -> Source:
    """Return the source that images were chosen of; the source itself where none were."""
    found: Source = getattr(source, "chosen_of", source)
    return found


def choose(source: Source, indices: Sequence[int]) -> Source:
    """Return a source of some images.

    What else the source can (tell places, read masks of its labels) the new one can as well: each
    method whose first argument is called ``index`` gets the number of the image in the whole.

    Args:
        source: of all images.
        indices: ascending, of those to keep.
    """
    namespace: dict[str, Any] = {"chosen_of": source}
    for name in dir(source):
        if not name.startswith("_"):
            namespace[name] = _attribute(source, name, tuple(indices))
    names = tuple(source.names[index] for index in indices)
    namespace["names"] = property(lambda _: names)
    return cast("Source", type(f"Chosen{type(source).__name__}", (), namespace)())


def _attribute(source: Source, name: str, indices: tuple[int, ...]) -> Any:
    """Return what stands for an attribute of the whole in the class of the chosen images."""
    of_class = getattr(type(source), name, None)
    if not inspect.isfunction(of_class):
        return property(lambda _: getattr(source, name))
    if list(inspect.signature(of_class).parameters)[1:2] != ["index"]:
        return lambda _, *args, **options: getattr(source, name)(*args, **options)
    return _by_index(getattr(source, name), indices)


def _by_index(method: Callable[..., Any], indices: tuple[int, ...]) -> Callable[..., Any]:
    def of_chosen(_: object, index: int, *args: Any, **options: Any) -> Any:
        return method(indices[index], *args, **options)

    return of_chosen
