"""``workbench attention``: where the attention of every head goes, as a page that needs nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.commands._shared import (
    Subparsers,
    add,
    add_threads,
    check_json,
    count,
    load_model,
    progress_line,
    use_threads,
    write_json,
)
from workbench.errors import ArgumentError

EPILOG = """\
examples:
  workbench attention --text book.txt --tokens 4096 --out report.html
  workbench attention --tokens 1024 --patterns none --kv snapkv,h2o --out report.html --json report.json

The page holds a map of every head, the text shaded by what it looks at, what sparse patterns keep and cost, and which
rows smaller KV caches keep. It opens in any browser, without a network.
"""
QUICK = ("a-shape", "block-top", "vertical-slash")


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "attention", "write a page about where attention goes", EPILOG)
    parser.add_argument("--model", metavar="DIR_or_ID", help="the model (default: the default model)")
    parser.add_argument("--text", metavar="FILE", help="a text file (default: the built-in text)")
    parser.add_argument("--tokens", type=count, metavar="N", default=4096, help="tokens of it (default: 4096)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the page here, whole or not at all")
    parser.add_argument(
        "--patterns", metavar="NAMES", default=",".join(QUICK),
        help=f"sparse patterns with commas between them, all, or none (default: {','.join(QUICK)})",
    )  # fmt: skip
    parser.add_argument("--kv", metavar="NAMES", default="all", help="KV methods, all, or none (default: all)")
    parser.add_argument("--list", action="store_true", help="list the methods that the workbench knows, and stop")
    parser.add_argument("--seed", type=int, metavar="N", default=0)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures and settings here")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Read, look, and write the page."""
    if given.list:
        from workbench._docs import attention_table

        print(attention_table())
        return 0
    check_json(given.json)
    out = _target(given.out)
    use_threads(given.threads)
    from workbench.attention.studying import study
    from workbench.commands._texts import tokens_of

    with progress_line() as progress:
        lm = load_model(given.model, progress)
        ids = tokens_of(lm, given.text, given.tokens)
        patterns, kv = _names(given.patterns), _names(given.kv)
        found = study(lm, ids, patterns=patterns, kv=kv, seed=given.seed, progress=progress)
    write_json(given.json, {"command": "attention", **found.to_dict()})
    print(found)
    if out is None:
        print(found.to_text())
        return 0
    size = _write(found, out)
    print(f"written: {out} ({size / 1e6:.1f} MB)")
    return 0


def _names(text: str) -> Any:
    return {"all": "all", "none": ()}.get(text) if text in {"all", "none"} else text.split(",")


def _target(path: Path | None) -> Path | None:
    """Refuse before the long work starts what could not be written after it."""
    if path is None:
        return None
    target = path.expanduser().absolute()
    if not target.parent.is_dir():
        raise ArgumentError(f"--out {path}: there is no folder {target.parent}")
    if target.is_dir():
        raise ArgumentError(f"--out {path}: is a folder; name a file in it")
    return target


def _write(found: Any, target: Path) -> int:
    """The page's bytes."""
    import workbench
    from workbench._files import whole

    lens: Any = workbench.lens  # looked up when it is used: the library knows no widget
    page = lens(found).to_html().encode()
    with whole(target, "give --out another place") as part:
        part.write_bytes(page)
    return len(page)
