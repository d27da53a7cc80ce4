"""What every page is made with: Jinja templates, style sheets and scripts, in one HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from terrazzo.base import printable
from terrazzo.report import number_formats


def render(
    template: str, values: Mapping[str, Any], *, styles: Sequence[str], scripts: Sequence[str]
) -> str:
    """Render a page that opens offline.

    Args:
        template: name of the page's template; all names are of files in ``templates/``.
        values: what the template shows; text is escaped unless it is `Markup`.
        styles: names of style sheets, written into the page in this order.
        scripts: names of scripts, likewise; the page allows no others.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("terrazzo.report"),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number_formats.FILTERS)
    script = "".join(map(_read, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    shell = {
        "style": Markup("".join(map(_read, styles))),  # noqa: S704 - our own
        "script": Markup(script),  # noqa: S704 - our own
        "script_digest": digest,
    }
    return environment.get_template(template).render({**values, **shell})


def _shown(value: object) -> object:
    """Return what a template is given in a form that HTML can hold."""
    return printable.lines(value) if type(value) is str else value  # `Markup` is our own


def _read(name: str) -> str:
    return (resources.files("terrazzo.report") / "templates" / name).read_text(encoding="utf-8")
