"""The ledger: what became of every claim, as recorded runs and as one page made from them.

    replicate --> Outcome --record--> <method>.json --page--> README.md

One file per method holds its newest run; the page is what `page` makes of the files, and a test says so. A record
brings its table and its conditions in words along, so that the page knows no kind of claim. Records of version 1,
which were all of pruned models, are read as if they did.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench._files import whole
from workbench._format import number
from workbench.claims import ModelConditions, Outcome, Run
from workbench.errors import DataError
from workbench.results import json_ready

FOLDER = Path(__file__).parent / "ledger"
PAGE = "README.md"
VERSION = 2
_COMMON = ("method", "statement", "setting", "status", "measurement", "provenance", "seconds")
_NEEDED = {
    1: (*_COMMON, "dense_perplexity", "model", "protocol", "calibration"),
    2: (*_COMMON, "summary", "table"),
}

_HEAD = """\
# Which claims hold up here

Every published method and kernel carries the headline claim of its paper, in our words, and a check that measures
its counterpart: `workbench replicate METHOD`. *Held* means that the whole 95 % interval lies on the claimed side,
*not held* that it lies on the other, *inconclusive* neither. The models here are smaller than the papers', and the
machine is another, so "not held" is a finding about this setting and no judgement of the paper. This page is made
from the recorded runs beside it by `workbench replicate --ledger`.
"""


def record(outcome: Outcome, folder: Path | None = None) -> Path:
    """Write an outcome as its method's newest run, whole or not at all.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    folder = FOLDER if folder is None else folder
    rows, header = outcome.table()
    words = {"summary": outcome.conditions.summary(), "table": {"header": header, "rows": rows}}
    content = {"version": VERSION, **outcome.to_dict(), **json_ready(words)}
    return _write(folder / f"{outcome.method}.json", json.dumps(content, indent=1, sort_keys=True) + "\n")


def recorded(folder: Path | None = None) -> tuple[Mapping[str, Any], ...]:
    """All recorded runs, by method.

    Raises
    ------
    DataError
        If a file is not such a record.
    """
    found = []
    for path in sorted((FOLDER if folder is None else folder).glob("*.json")):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} is not JSON ({error}): run workbench replicate {path.stem} again") from error
        version = run.get("version") if isinstance(run, dict) else None
        if version not in _NEEDED or not all(k in run for k in _NEEDED[version]):
            raise DataError(f"{path} is no record of a claim: run workbench replicate {path.stem} --ledger")
        found.append(run if version == VERSION else _from_first(run))
    return tuple(found)


def page(runs: tuple[Mapping[str, Any], ...]) -> str:
    """The page, as Markdown."""
    if not runs:
        return f"{_HEAD}\nNothing has been recorded yet.\n"
    counts = {s: sum(r["status"] == s for r in runs) for s in ("held", "not held", "inconclusive")}
    summary = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
    rows = [
        "| method | claim | in the paper | asked here | found (95 % interval) | verdict |",
        "|---|---|---|---|---|---|",
        *(_row(run) for run in runs),
    ]
    details = "\n".join(_details(run) for run in runs)
    return "\n".join([_HEAD, f"{len(runs)} claims: {summary}.", "", *rows, "", "## Runs", "", details])


def write_page(folder: Path | None = None) -> Path:
    """Make the page from the recorded runs of a folder and write it beside them."""
    folder = FOLDER if folder is None else folder
    return _write(folder / PAGE, page(recorded(folder)))


def _row(run: Mapping[str, Any]) -> str:
    m = run["measurement"]
    found = f"{m['quantity']} {_figure(m['estimate'])} ({_figure(m['low'])} to {_figure(m['high'])})"
    verdict = f"**{run['status']}**{': ' + m['note'] if m['note'] else ''}"
    cells = (f"`{run['method']}`", run["statement"], run["setting"], m["asked"], found, verdict)
    return f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in cells)} |"


def _from_first(run: Mapping[str, Any]) -> dict[str, Any]:
    """A record of version 1 with its table and its conditions in words."""
    conditions = ModelConditions(*(run[k] for k in ("dense_perplexity", "model", "protocol", "calibration")))
    rows = []
    for given in run["measurement"]["runs"]:
        quality = math.nan if given["perplexity"] is None else given["perplexity"]
        rows.append(Run(**{**given, "perplexity": quality}, nll=np.empty(0)).cells())
    return {**run, "summary": conditions.summary(), "table": {"header": Run.HEADER, "rows": rows}}


def _details(run: Mapping[str, Any]) -> str:
    where, table = run["provenance"], run["table"]
    machine = (
        f"{where['machine']}, {where['torch_threads']} threads, torch {where['versions'].get('torch', '-')}, "
        f"{run['seconds']:.0f} s."
    )
    lines = [f"### {run['method']}", "", f"{run['summary']} {machine}", ""]
    if table["rows"]:
        lines += [f"| {' | '.join(table['header'])} |", "|---" * len(table["header"]) + "|"]
    lines += [f"| `{first}` | {' | '.join(others)} |" for first, *others in table["rows"]]
    return "\n".join([*lines, ""])


def _figure(value: float | None) -> str:
    return "-" if value is None else number(float(value))


def _write(path: Path, text: str) -> Path:
    with whole(path, "give --ledger a folder that can be written") as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
    return path
