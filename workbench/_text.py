"""Where text comes from: Python itself, a file, the ``datasets`` library. Public in `workbench.data`."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from workbench.errors import ArgumentError, DataError

_SPLITS = ("train", "test", "validation", "valid", "dev")


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text that knows where it comes from.

    Attributes
    ----------
    content
        The characters.
    name
        What a reader calls the source.
    sha256
        Hash of the *whole* source text, UTF-8.
    span
        First character and one past the last, within the whole source text.
    """

    content: str = field(repr=False)
    name: str
    sha256: str
    span: tuple[int, int]

    def split(self, evaluation: float = 0.25) -> tuple[Text, Text]:
        """Cut into a calibration part and an evaluation part at the nearest paragraph end after the cut.

        Parameters
        ----------
        evaluation
            Share of the characters for the second part, in (0, 1).

        Raises
        ------
        ArgumentError
            If the share is not in (0, 1).
        DataError
            If one part would be empty.
        """
        if not 0 < evaluation < 1:
            raise ArgumentError(f"evaluation={evaluation!r}: a share between 0 and 1, e.g. 0.25")
        wanted = int(len(self.content) * (1 - evaluation))
        at = wanted
        for mark in ("\n\n", "\n", " "):
            found = self.content.find(mark, wanted)
            if found >= 0 and self.content[found:].strip():
                at = found + len(mark)
                break
        if not self.content[:at].strip() or not self.content[at:].strip():
            size = len(self.content)
            raise DataError(f"{self.name}: {size} characters are too few to split: give a longer text")
        return self._part(0, at), self._part(at, len(self.content))

    def _part(self, start: int, end: int) -> Text:
        base = self.span[0]
        return Text(self.content[start:end], self.name, self.sha256, (base + start, base + end))


def load_text(source: str | Path | Text | None = None) -> Text:
    """Read a text: built in, from a file, or from a data set.

    Parameters
    ----------
    source
        None for the text that ships with Python; a path to a UTF-8 file; or
        ``"datasets:ID[:CONFIG][:SPLIT]"`` for the ``datasets`` library (split ``train`` unless named).

    Raises
    ------
    DataError
        If the source is missing, is not UTF-8 text, is empty, or cannot be fetched.

    Examples
    --------
    >>> load_text().name.startswith("pydoc_data.topics")
    True
    """
    if isinstance(source, Text):
        return source
    if source is None:
        return _builtin()
    if isinstance(source, str) and source.startswith("datasets:"):
        return _make(_read_dataset(source.removeprefix("datasets:")), source)
    return _make(_read_file(Path(source).expanduser()), Path(source).name)


@lru_cache(maxsize=1)
def _builtin() -> Text:
    from pydoc_data.topics import topics

    content = "\n\n".join(topics[key] for key in sorted(topics))
    return _make(content, f"pydoc_data.topics of Python {platform.python_version()}")


def _make(content: str, name: str) -> Text:
    if not content.strip():
        raise DataError(f"{name}: the text is empty: give a text with words in it")
    return Text(content, name, hashlib.sha256(content.encode()).hexdigest(), (0, len(content)))


def _read_file(path: Path) -> str:
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such text file (a data set is 'datasets:ID:CONFIG:SPLIT')") from None
    except UnicodeDecodeError as error:
        where = f"{path}: not UTF-8 text (byte {error.start})"
        raise DataError(f"{where}: convert it to UTF-8 plain text") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): give a readable text file") from None
    if "\0" in content:
        raise DataError(f"{path}: a binary file, not text: give UTF-8 plain text")
    return content


def _read_dataset(name: str) -> str:
    identifier, _, rest = name.partition(":")
    if rest.startswith(_SPLITS):
        config, split = "", rest
    else:
        config, _, split = rest.partition(":")
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"datasets:{name} needs the datasets library: pip install datasets, or give a text file"
        ) from None
    try:
        rows = datasets.load_dataset(identifier, config or None, split=split or "train")
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"datasets:{name} cannot be loaded ({(str(error) or repr(error)).splitlines()[0]}): "
            "check its name and the network, or give a text file"
        ) from error
    kinds = {column: getattr(feature, "dtype", "") for column, feature in rows.features.items()}
    columns = [column for column, kind in kinds.items() if kind in ("string", "large_string")]
    if not columns:
        raise DataError(f"datasets:{name} has no column of text (columns: {', '.join(kinds)})")
    return "\n\n".join(str(x) for x in rows["text" if "text" in columns else columns[0]] if x)
