"""The k largest of every row of logits, exactly, several times as fast as a partition of the whole rows."""

from __future__ import annotations

import numpy as np

PARTS = 32


def top_tokens(logits: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k largest entries of each row, largest first.

    A row is cut into columns of `PARTS` entries (every ``V / PARTS``-th one); the k largest entries stand in the k
    columns with the largest maxima, so that only those are sorted. The maxima are taken by whole vectors.

    Parameters
    ----------
    logits : ndarray of float32 [T, V]
    k
        At most V.

    Returns
    -------
    ndarray of int64 [T, k]
    """
    rows, size = logits.shape
    wide = size // PARTS
    if wide <= 2 * k:
        return np.argsort(-logits, axis=1, kind="stable")[:, :k]
    whole = wide * PARTS
    peaks = logits[:, :whole].reshape(rows, PARTS, wide).max(axis=1)
    columns = np.argpartition(peaks, wide - k, axis=1)[:, wide - k :]
    places = (columns[:, :, None] + np.arange(0, whole, wide)).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(whole, size), (rows, size - whole))
    places = np.concatenate([places, rest], axis=1)
    found = np.take_along_axis(logits, places, axis=1)
    best = np.argpartition(found, found.shape[1] - k, axis=1)[:, found.shape[1] - k :]
    values = np.take_along_axis(found, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(np.take_along_axis(places, best, axis=1), order, axis=1)
