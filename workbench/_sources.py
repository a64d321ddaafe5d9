"""Where a checkpoint lies: a folder, a GGUF file, or the hub, which is asked once and briefly.

    name -> (folder or id, options for transformers)

Nothing here opens weights. What could hide a pickle (a folder without safetensors, an index or a configuration
that names other files) is refused before transformers sees it.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from workbench.errors import ArgumentError, ModelError

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
WAIT_SECONDS = 2.5


def locate(name: str) -> tuple[str, dict[str, Any]]:
    """The folder or id that transformers should read, and the options for it.

    Raises
    ------
    ModelError
        If there is nothing of that name, or its weights are pickles.
    """
    if name == "default":
        from workbench.weights import default_model_dir

        return str(default_model_dir()), {"use_safetensors": True}
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"source={name!r}: there is no such GGUF file")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_file():
        raise ModelError(f"source={name!r} is a file but no GGUF: pass its folder, with config.json beside it")
    if path.is_dir():
        check_folder(path)
        return str(path), {"use_safetensors": True}
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"source={name!r}: there is no such folder")
    folder = cached_folder(name)
    if folder is not None:
        check_folder(folder)
    return name if folder is None else str(folder), {"use_safetensors": True}


def source_name(source: object) -> str:
    """The name of what to load, in a form that `locate` takes."""
    if source in (None, "", "default"):
        return "default"
    if not isinstance(source, str | os.PathLike) or not isinstance(name := os.fspath(source), str):
        raise ArgumentError(
            f"source={source!r} is neither a name nor a path: pass a folder, a GGUF file, a Hugging Face id, or nothing"
        )
    return name


def read_config(folder: Path) -> dict[str, Any]:
    """The content of ``config.json``.

    Raises
    ------
    ModelError
        If it is no JSON object.
    """
    file = folder / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{file} is not JSON ({error}): the checkpoint is damaged, fetch or write it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds a {type(content).__name__}, not the settings of a model: it is damaged")
    return content


def is_per_layer(folder: str) -> bool:
    """Whether a folder holds layers with sizes of their own, for `workbench.checkpoint.load_per_layer`."""
    return (Path(folder) / "config.json").is_file() and "per_layer_config" in read_config(Path(folder))


def check_folder(path: Path) -> None:
    """Refuse a folder that is no checkpoint, or whose weights are (or point to) pickles."""
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} holds no config.json, so it is no checkpoint")
    if not any(path.glob("*.safetensors")):
        _refuse(path, [p.name for p in sorted(path.iterdir()) if p.suffix in PICKLES])
        raise ModelError(f"{path} holds no *.safetensors weights")
    named = [str(read_config(path).get("transformers_weights") or "")]
    for index in sorted(path.glob("*.safetensors.index.json")):
        try:
            named += sorted({str(f) for f in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ModelError(f"{index} is damaged ({error}): fetch the checkpoint again") from error
    _refuse(path, [n for n in named if n and not n.endswith((".safetensors", ".safetensors.index.json"))])


def _refuse(path: Path, pickles: list[str]) -> None:
    if pickles:
        raise ModelError(
            f"{path} holds its weights as pickles ({', '.join(pickles[:3])}), which can run any code when they "
            "are opened. They are not read: convert the checkpoint to safetensors where you trust it"
        )


def cached_folder(name: str) -> Path | None:
    """Where a Hugging Face id lies in the local cache, if the hub does not answer; None if it does.

    Without this, a typing error takes half a minute of retries where there is no network.

    Raises
    ------
    ModelError
        If it is no valid id, or neither cached nor within reach.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ModelError(f"source={name!r}: there is no such folder, and it is no Hugging Face id") from error
    offline = bool(constants.HF_HUB_OFFLINE)
    if not offline and answers(hf_hub_url(name, "config.json")):
        return None
    config = try_to_load_from_cache(name, "config.json")
    if isinstance(config, str):
        return Path(config).parent
    reason = "offline mode is on (HF_HUB_OFFLINE)" if offline else f"{constants.ENDPOINT} does not answer"
    raise ModelError(
        f"source={name!r}: there is no such folder, it is not in the cache ({constants.HF_HUB_CACHE}), and {reason}. "
        "Pass a folder, a GGUF file, an id that is cached (`workbench models` lists them), or nothing for the "
        "embedded default"
    )


def answers(url: str, wait: float | None = None) -> bool:
    """Whether a server answers at all, with whatever status, within ``wait`` seconds.

    The default is 2.5 s, or ``HF_HUB_ETAG_TIMEOUT`` where you set it. Name look-ups have no time-out of their own, so
    the question is asked in a thread that is left behind if need be.
    """
    wait = wait or (constants.HF_HUB_ETAG_TIMEOUT if os.environ.get("HF_HUB_ETAG_TIMEOUT") else WAIT_SECONDS)
    found = threading.Event()

    def ask() -> None:
        if _responds(url, wait):
            found.set()

    thread = threading.Thread(target=ask, daemon=True, name="workbench-hub")
    thread.start()
    thread.join(wait)
    return found.is_set()


def _responds(url: str, wait: float) -> bool:
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the address is the hub's, from its own library
    try:
        urllib.request.urlopen(request, timeout=wait).close()  # noqa: S310
    except urllib.error.HTTPError:  # not found, not allowed: somebody is there, and transformers will say what
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # certificates are the hub library's affair
    except (OSError, ValueError):
        return False
    return True
