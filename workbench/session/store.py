"""Where a session is kept: a folder of JSON and safetensors, every file whole or not there.

    session.json              the model's name and fingerprint, texts, choice, journal
    variants/0001/            variant.json: steps, figures, recipe, report; masks as bits; changed tensors

A variant's folder appears at once, complete, so that a process that dies leaves nothing half-made.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from workbench._files import write_text
from workbench.errors import DataError, ResourceError
from workbench.session.codec import decode, encode
from workbench.session.packing import Packed

VERSION = 1
SESSION, VARIANT = "session.json", "variant.json"


class Store:
    """A session's folder, held by one process at a time.

    Parameters
    ----------
    folder
        None for a temporary one, which goes with the session.

    Attributes
    ----------
    folder : Path
    kept : bool
        Whether the folder stays when the session is over.

    Raises
    ------
    ResourceError
        If another process holds the folder, or it cannot be written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.kept = folder is not None
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="sparse-workbench-"))
            self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.folder = folder
        self._lock = FileLock(folder / ".lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ResourceError(
                f"the session in {folder} is open in another process: close that one, or open another folder"
            ) from error
        except OSError as error:
            raise ResourceError(f"cannot keep a session in {folder} ({error}): name a folder of yours") from error

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.release()
        if not self.kept:
            self._remove()

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep all but the variants."""
        text = json.dumps(encode({"version": VERSION, **state})) + "\n"
        write_text(self.folder / SESSION, text, "free some space, or open the session in another folder")

    def read(self) -> dict[str, Any] | None:
        """What `write` kept last; None if nothing was.

        Raises
        ------
        DataError
            If it is damaged, or of another version.
        """
        return _read(self.folder / SESSION) if (self.folder / SESSION).is_file() else None

    def add(self, number: int, figures: Mapping[str, Any], packed: Packed | None) -> None:
        """Keep a variant.

        Raises
        ------
        ResourceError
            If the disk is full; nothing is there then.
        """
        target = self._place(number)
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        said = {"version": VERSION, **figures, "packed": None}
        try:
            part.mkdir(parents=True)
            if packed is not None:
                said["packed"] = {"kinds": dict(packed.kinds), "config": packed.config}
                for name, tensors in (("masks", packed.masks), ("stored", packed.stored)):
                    save_file({k: v.contiguous() for k, v in tensors.items()}, part / f"{name}.safetensors")
            (part / VARIANT).write_text(json.dumps(encode(said)) + "\n", encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)  # of a variant that no session.json speaks of
            part.rename(target)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise ResourceError(f"cannot keep the variant in {target} ({error}): free some space") from error

    def figures(self) -> list[dict[str, Any]]:
        """What was kept of every variant, in the order of making."""
        return [_read(file) for file in sorted(self.folder.glob(f"variants/[0-9]*/{VARIANT}"))]

    def packed(self, number: int) -> Packed:
        """What a variant's model is built from.

        Raises
        ------
        DataError
            If it is damaged.
        """
        place = self._place(number)
        said = _read(place / VARIANT)["packed"]
        try:
            masks, stored = (load_file(place / f"{name}.safetensors") for name in ("masks", "stored"))
        except (OSError, SafetensorError) as error:
            raise DataError(f"{place} is damaged ({error}): repeat its recipe, or remove the folder") from error
        return Packed(said["kinds"], masks, stored, said["config"])

    def _place(self, number: int) -> Path:
        return self.folder / "variants" / f"{number:04d}"


def _read(file: Path) -> dict[str, Any]:
    try:
        found = decode(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise DataError(f"{file} is no session of version {VERSION}: another version of the workbench made it")
    return found
