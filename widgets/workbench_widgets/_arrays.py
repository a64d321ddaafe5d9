"""Arrays as one run of bytes, with the places where each of them lies; ``unpack`` in ``link.js`` reads them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ALIGN = 8
_TYPES = {"f": "<f4", "i": "<i4", "b": "<u1", "u": "<u1"}


def pack(arrays: Mapping[str, np.ndarray], at: int = 0) -> tuple[dict[str, list[object]], bytes]:
    """Places and bytes of arrays, as float32, int32, uint16 or uint8.

    Parameters
    ----------
    arrays
        By name.
    at
        Where the first byte will lie; a multiple of 8.

    Returns
    -------
    tuple of dict of str to [type, first byte, elements], bytes
    """
    places: dict[str, list[object]] = {}
    parts = []
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array.astype("<u2" if array.dtype == np.uint16 else _TYPES[array.dtype.kind]))
        places[name] = [plain.dtype.str[1:], at, int(plain.size)]
        data = plain.tobytes()
        parts.append(data + bytes(-len(data) % ALIGN))
        at += len(parts[-1])
    return places, b"".join(parts)
