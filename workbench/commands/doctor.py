"""``workbench doctor``: whether everything is there, and what to do if not."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from textwrap import wrap

from workbench.commands._shared import Subparsers, add

EPILOG = """\
examples:
  workbench doctor                    versions, cores, memory, caches, widgets, network; what to do about each problem
  workbench doctor --json             the same for programs

Nothing is changed. Exit status: 0 all is well, 1 something will fail.
"""
MARKS = {"ok": "  ok", "note": "note", "problem": "FAIL"}


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "doctor", "say whether everything is there, and what to do if not", EPILOG)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Examine and report."""
    from workbench.doctor import examine

    found = examine()
    bad = [finding for finding in found if finding.level == "problem"]
    if given.json:
        print(json.dumps({"ok": not bad, "findings": [asdict(finding) for finding in found]}, indent=2))
        return 1 if bad else 0
    width = max(len(finding.name) for finding in found)
    for finding in found:
        lines = wrap(finding.found, 110 - width, break_long_words=False, break_on_hyphens=False) or [""]
        print(f"{MARKS[finding.level]}  {finding.name:{width}}  {lines[0]}")
        for line in lines[1:]:
            print(f"      {'':{width}}  {line}")
        if finding.advice:
            print(f"      {'':{width}}  -> {finding.advice}")
    print(f"\n{len(bad)} problem{'s' if len(bad) != 1 else ''}" if bad else "\nAll is well.")
    return 1 if bad else 0
