"""``workbench export``: something that was saved, as one page that needs neither kernel nor network."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from workbench.commands._shared import Subparsers, add
from workbench.errors import ArgumentError, DataError

EPILOG = """\
examples:
  workbench generate --method prompt-lookup --trace t.json "one two one two"
  workbench export t.json                       a trace: t.html replays it step by step
  workbench export my-session --out report.html     a session's folder: its variants, side by side
  workbench export lesson.ipynb                 a notebook: what its cells showed when it was saved

The page holds all that it shows, opens from a file in any browser, and asks for nothing. workbench attention --out
writes its page itself.
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }}
pre, code {{ font-family: ui-monospace, monospace; font-size: 0.875rem; }}
pre {{ padding: 0.5rem 0.75rem; overflow-x: auto; border-radius: 6px; background: color-mix(in srgb, currentColor 6%, transparent); }}
.prompt, .anchor-link {{ display: none; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: 2px 10px; }}
img, svg {{ max-width: 100%; }}
</style></head><body><main>
{body}
</main></body></html>
"""  # noqa: E501 - one line of a style sheet


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "export", "write what was saved as a page that needs nothing else", EPILOG)
    parser.add_argument("file", metavar="FILE", type=Path, help="a trace, a session's folder or a notebook")
    parser.add_argument("--out", metavar="PAGE", type=Path, help="the page (default: FILE's name with .html, here)")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Recognise, draw, write."""
    from workbench._files import whole

    source = given.file.expanduser()
    target = (given.out or Path(f"{source.absolute().stem}.html")).expanduser().absolute()
    if given.out is None and target.exists():
        raise ArgumentError(f"{target} is there already: name the page with --out")
    if not target.parent.is_dir() or target.is_dir():
        raise ArgumentError(f"--out {given.out}: name a file in a folder that is there")
    page = page_of(source).encode()
    with whole(target, "give --out another place") as part:
        part.write_bytes(page)
    print(f"written: {target} ({len(page) / 1e6:.1f} MB)")
    return 0


def page_of(source: Path) -> str:
    """The page of whatever lies there.

    Raises
    ------
    ArgumentError
        If it is nothing that has a page.
    DataError
        If it is damaged.
    """
    if (source / "session.json").is_file():
        return _session(source)
    if source.is_dir():
        raise ArgumentError(f"{source} is no session's folder: it has no session.json")
    if not source.is_file():
        raise ArgumentError(f"{source} is not there: name a trace, a session's folder or a notebook")
    if source.suffix == ".ipynb":
        return _notebook(source)
    return _trace(source)


def _session(folder: Path) -> str:
    import workbench
    from workbench import session as sessions

    with tempfile.TemporaryDirectory(prefix="sparse-workbench-") as scratch:
        copy = Path(scratch) / folder.absolute().name  # the session itself may be open in a notebook
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".lock"))
        opened = workbench.open(copy)
        try:
            report: Any = getattr(sessions, "report_html", None)
            if report is not None:
                return str(report(opened))
            studio: Any = workbench.studio  # looked up when it is used: the library knows no widget
            shown = studio(opened, panel="compare")
            try:
                return str(shown.to_html())
            finally:
                shown.close()
        finally:
            opened.close()


def _trace(source: Path) -> str:
    import workbench

    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read as JSON ({error}): name a trace that was saved") from error
    if isinstance(content, dict) and "command" in content:
        raise ArgumentError(f"{source} holds the figures of workbench {content['command']}, which have no page")
    theatre: Any = workbench.theatre
    return str(theatre(source).to_html())


def _notebook(source: Path) -> str:
    import html

    import nbformat
    from nbconvert import HTMLExporter

    try:
        notebook = nbformat.read(source, 4)
    except Exception as error:  # nbformat raises anything on what is no notebook
        raise DataError(f"{source} is no notebook that can be read: {error}") from error
    notebook.metadata.pop("widgets", None)  # they would be drawn with scripts from elsewhere; their pictures stay
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            for kind in [k for k in data if k.startswith("application/")]:
                del data[kind]
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return PAGE.format(title=html.escape(source.stem), body=body)
