"""One module per subcommand of ``workbench``: ``add_parser(subparsers)`` and the function that it runs.

A new subcommand is a new module here and its name in `COMMANDS`. Torch is imported inside the functions
only, so that ``--help`` answers at once.
"""

from workbench.commands import (
    attention,
    bench,
    bench_attention,
    bench_decode,
    check,
    check_lossless,
    decoders,
    doctor,
    evaluate,
    export,
    generate,
    kv,
    lab,
    lesson,
    listing,
    methods,
    models,
    prune,
    replicate,
    train_heads,
)

COMMANDS = (
    lab,
    lesson,
    listing,
    doctor,
    check,
    prune,
    evaluate,
    models,
    methods,
    decoders,
    generate,
    export,
    check_lossless,
    replicate,
    bench,
    bench_attention,
    bench_decode,
    attention,
    kv,
    train_heads,
)

__all__ = ["COMMANDS"]
