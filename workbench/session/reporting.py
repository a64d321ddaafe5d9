"""A session as one static page: the comparison, every variant, and the Python that makes all of it again."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from workbench.session.variants import Variant

_STYLE = "body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font-family: system-ui, sans-serif; }"


def report(title: str, compared: Any, variants: Sequence[Variant], python: str) -> str:
    """The page; it needs no scripts and no network.

    Parameters
    ----------
    compared : Compared
    python
        The program of the session.
    """
    parts = [compared.to_html(), *(v.to_html() for v in variants), f"<h2>Python</h2><pre>{html.escape(python)}</pre>"]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>{body}</main></body></html>\n'
