"""The page: drop an image, see its map. One file that loads nothing from elsewhere."""

from __future__ import annotations

from terrazzo.models.card import ModelCard
from terrazzo.report import page_assets
from terrazzo.serving.answers import Answer, card_as_json
from terrazzo.serving.settings import ServeSettings

_HEADER_POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""What a page cannot say of itself; the rest of its policy stands in its head, with the digest of
its script."""


def answer(card: ModelCard, settings: ServeSettings) -> Answer:
    """Return the page of a model."""
    values = card_as_json(card, settings)
    html = page_assets.render(
        "serve.html", values, styles=("page.css", "serve.css"), scripts=("serve.js",)
    )
    policy = (("Content-Security-Policy", _HEADER_POLICY),)
    return Answer(200, html.encode(), "text/html; charset=utf-8", policy)
