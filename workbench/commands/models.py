"""``workbench models``: what is at hand, what the default is, and which families can be pruned."""

from __future__ import annotations

import argparse

from workbench import weights
from workbench._format import amount
from workbench.commands._shared import Subparsers, add, progress_line, table

EPILOG = """\
examples:
  workbench models             what is cached, and which families are supported
  workbench models --fetch     fetch the default model now, to work offline later

A model is named by a Hugging Face id (org/name), a folder, or a GGUF file; without a name it is the default.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "models", "list cached models and supported families", EPILOG)
    parser.add_argument("--fetch", action="store_true", help="fetch and convert the default model, then end")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """List, or fetch."""
    if given.fetch:
        return fetch()
    folder = weights.default_target()
    there = weights.is_complete(folder)
    size = amount(sum(f.stat().st_size for f in folder.iterdir())) if there else "-"
    rows = [
        ("model", "size", "where"),
        (f"{weights.DEFAULT_NAME} (default)", size, str(folder) if there else "-"),
    ]
    print(table(rows + cached_on_hub()))
    if not there:
        print("The default model is not in the cache yet: workbench models --fetch")
    from workbench._docs import FAMILY_NAMES

    print("\nModels of these families can be pruned:")
    print(table([("model_type", "models"), *sorted(FAMILY_NAMES.items())]))
    print("\nName one by its Hugging Face id, its folder or its GGUF file: workbench prune --model NAME --out DIR")
    return 0


def fetch() -> int:
    """Put the default model into the cache, unless it is there."""
    folder = weights.default_target()
    if not weights.is_complete(folder):
        with progress_line() as progress:
            folder = weights.default_model_dir(progress)
        print(f"{weights.DEFAULT_NAME} is in {folder}")
    return 0


def cached_on_hub() -> list[tuple[str, str, str]]:
    """Rows for the models in Hugging Face's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = sorted((r for r in repos if r.repo_type == "model"), key=lambda r: r.repo_id)
    return [(r.repo_id, amount(r.size_on_disk), str(r.repo_path)) for r in found]
