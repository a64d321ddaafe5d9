"""``workbench generate``: decode an answer with one of the methods, and record every event."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands._shared import Subparsers, add, add_threads, count, load_model, progress_line, use_threads
from workbench.errors import ArgumentError

if TYPE_CHECKING:
    from workbench.jobs import Progress

EPILOG = """\
examples:
  workbench generate --chat "Give me three tips for a first marathon."
  workbench generate --method prompt-lookup --runtime compiled "one two three one two three one"
  workbench generate --method prompt-lookup --set draft_tokens=6 --trace out.json "one two three one two"
  workbench generate --method draft-model --draft my-small-model --temperature 0.8 "Once upon a time"
  workbench generate --list                      the methods, with what they promise

The text goes to standard output, what it cost to standard error. With the same seed the same text comes again.
"""
RUNTIMES = ("transformers", "compiled")


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "generate", "decode an answer with one of many methods", EPILOG)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="text to continue, or with --chat an instruction")
    parser.add_argument("--list", action="store_true", help="list the methods instead (see also: workbench decoders)")
    parser.add_argument("--model", metavar="DIR_or_ID", help="the model (default: the default model)")
    parser.add_argument("--method", default="greedy", metavar="METHOD", help="how to decode (default: greedy)")
    parser.add_argument(
        "--set", action="append", default=[], type=setting, metavar="NAME=VALUE", help="a hyper-parameter of the method"
    )
    parser.add_argument("--draft", metavar="DIR_or_ID", help="the draft model, for methods that take one")
    parser.add_argument("--max-new-tokens", type=count, default=128, metavar="N", help="at most (default: 128)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the most likely token")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="only the K most likely tokens")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="only the most likely ones up to P")
    parser.add_argument("--min-p", type=float, default=0.0, metavar="P", help="only P times as likely as the first")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of everything that is drawn (default: 0)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text")
    parser.add_argument("--chat", action="store_true", help="put PROMPT into the model's chat template")
    parser.add_argument("--runtime", choices=RUNTIMES, help="what runs the model (default: transformers)")
    parser.add_argument("--format", metavar="FORMAT", help="of the compiled runtime (default: dense)")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write every event here, for a replay")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Decode as asked, streaming the text."""
    if given.list:
        from workbench.commands.decoders import listing

        print(listing())
        return 0
    if given.prompt is None:
        raise ArgumentError("no PROMPT was given: put the text behind the options, in quotes")
    if given.trace is not None and not given.trace.expanduser().absolute().parent.is_dir():
        raise ArgumentError(f"--trace {given.trace}: there is no folder {given.trace.expanduser().absolute().parent}")
    use_threads(given.threads)
    from workbench.decode import generate, resolve

    resolve(given.method, dict(given.set))  # a wrong name is said before the model is loaded
    with progress_line() as progress:
        model, parameters = loaded(given, progress)
    prompt = given.prompt
    if given.chat:
        from workbench.decode.prompts import chat_ids

        prompt = chat_ids(model.tokenizer, prompt)
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "seed", "stop")
    options = {name: getattr(given, name) for name in names}
    found = generate(model, prompt, given.method, stream=say, **options, **parameters)
    print()
    if given.trace is not None:
        found.trace.save(given.trace.expanduser())
    print(cost_line(found), file=sys.stderr)
    return 0


def loaded(given: argparse.Namespace, progress: Progress) -> tuple[Any, dict[str, Any]]:
    """The model on its runtime, and the hyper-parameters, a draft model among them."""
    import workbench

    model: Any = load_model(given.model, progress)
    if given.runtime == "transformers" and given.format is not None:
        raise ArgumentError(f"--format {given.format} is for --runtime compiled")
    if given.runtime == "compiled" or given.format is not None:
        from workbench.commands.bench import split_format

        kind, values = split_format(given.format or "dense")
        model = workbench.compile(model, kind, values, threads=given.threads, progress=progress)
    parameters = dict(given.set)
    if given.draft is not None:
        parameters["draft"] = load_model(given.draft, progress)
    return model, parameters


def setting(text: str) -> tuple[str, Any]:
    """``name=value``; numbers, true, false, null and lists as in JSON, everything else is text."""
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError(f"{text!r}: give NAME=VALUE, such as draft_tokens=6")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def say(piece: str) -> None:
    """Print a piece of text at once."""
    sys.stdout.write(piece)
    sys.stdout.flush()


def cost_line(found: Any) -> str:
    """What an answer cost, in one line."""
    cost = found.trace.cost
    drafts = f" and {cost.draft_forwards} of the draft" if cost.draft_forwards else ""
    return (
        f"{found.trace.method}: {cost.tokens} tokens in {cost.target_forwards} passes of the target{drafts}, "
        f"{cost.tokens_per_forward:.2f} tokens a pass; prompt {cost.prefill_seconds:.2f} s, then "
        f"{cost.tokens_per_second:.1f} tokens/s; ended by: {found.finished}"
    )
