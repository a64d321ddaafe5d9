"""Texts that commands read: a file, or the built-in text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import DataError

if TYPE_CHECKING:
    from workbench.models import LM


def tokens_of(lm: LM, path: str | None, count: int) -> np.ndarray:
    """The first tokens of a text, int64, at most ``count``.

    Raises
    ------
    DataError
        If the file cannot be read, or the model has no tokenizer.
    """
    from workbench.data import evaluation

    if path is None:
        windows = evaluation(lm, windows=-(-count // 512), seqlen=512)
        return windows.ids.reshape(-1)[:count]
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): name a text file in UTF-8") from error
    if lm.tokenizer is None:
        raise DataError("the model has no tokenizer: it cannot read text")
    return np.asarray(lm.tokenizer(text)["input_ids"], np.int64)[:count]
