"""``workbench train-heads``: train drafting heads for a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.commands._shared import Subparsers, add, add_threads, count, load_model, progress_line, use_threads

EPILOG = """\
examples:
  workbench train-heads hydra --out hydra.safetensors            for the default model: about 20 CPU minutes
  workbench train-heads medusa --model org/name --out medusa.safetensors
  workbench generate --method hydra "Why is the sky blue?"       with the heads that come with the workbench

A killed training goes on where it stopped when the same command is given again.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "train-heads", "train Medusa or Hydra heads that draft for a model", EPILOG)
    parser.add_argument("kind", choices=("medusa", "hydra"), help="which heads")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--model", metavar="DIR_or_ID", help="what to train for (default: the default model)")
    parser.add_argument("--heads", metavar="N", type=count, default=3, help="tokens of a draft (default: 3)")
    parser.add_argument("--epochs", metavar="N", type=count, default=2, help="passes over the text (default: 2)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of text and training (default: 0)")
    parser.add_argument("--folder", metavar="DIR", type=Path, help="text and state (default: in the cache)")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Train, write the file, say what it is."""
    from workbench.decode import train_heads

    use_threads(given.threads)
    with progress_line() as progress:
        lm = load_model(given.model, progress)
        heads = train_heads(
            lm, given.kind, given.heads, epochs=given.epochs, seed=given.seed, folder=given.folder, progress=progress
        )
    print(f"{heads}\nwritten to {heads.save(given.out)}")
    rights = ", ".join(f"{row[0]:.0%}" for row in heads.accuracy)
    print(f"right on text held back, first guess of each head: {rights}")
    return 0
