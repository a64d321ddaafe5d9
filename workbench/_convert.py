"""Turn a GGUF file into a folder of safetensors: a script of its own, run by `workbench.weights`.

It runs in a process of its own so that it can be stopped at any moment, and so that the gigabyte that it
needs for a short while is given back. It imports nothing of the workbench:

    python -P _convert.py FILE.gguf FOLDER
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


def end_with(parent: int) -> None:
    """End this process as soon as ``parent`` has: nobody would take what it makes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def split_digits(tokenizer: Any) -> None:
    """Make SmolLM2's tokenizer split numbers into digits: a rule that GGUF names but does not spell."""
    from tokenizers import pre_tokenizers

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def convert(gguf: Path, folder: Path) -> None:
    """Write model and tokenizer of ``gguf`` to ``folder`` as float32 safetensors that can be saved again."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    split_digits(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are plain float32 by now; what still says "quantized" would refuse every later save.
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.remove_quantization_config(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    end_with(os.getppid())
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
