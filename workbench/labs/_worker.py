"""The process in which a student's code runs: one child per question, each with limits of its own.

    request (one line of JSON) --> set-up code, once --> for each question: fork, run, report (one line of JSON each)

A child that loops, crashes, leaves, or takes too much memory ends alone, and only its question is lost. It runs the
set-up, the answer and the test; if a name is missing, or the answer is still the stub, it runs once more with the
student's other cells before the test, whose errors do not count. The limits keep accidents apart; they are no sandbox
against malice.
"""

from __future__ import annotations

import contextlib
import json
import linecache
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from typing import Any, BinaryIO

import psutil

from workbench.labs.checking import Wrong

TEXT = 2000  # characters of a student's output that are kept
FILE_BYTES = 64 << 20
POLL_SECONDS = 0.01
PATIENCE = 4  # times the processor time that a question may take by the clock: machines are busy
SECOND = ("ok", "wrong", "error")  # verdicts for which the run with all cells counts
ROOM = 4  # times the memory that address space may grow: most of it is never touched


def main() -> None:
    """Serve one request from standard input."""
    request = json.loads(sys.stdin.readline())
    channel = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(_compiled(request["setup"], "set-up"), namespace)  # noqa: S102 - ours, not the student's
    for question in request["questions"]:
        answer = _ask({**question, "cells": question["answers"]}, request["memory_bytes"], namespace)
        if answer.pop("again", False) and question["all"]:
            second = _ask({**question, "cells": question["all"]}, request["memory_bytes"], namespace)
            second.pop("again", None)
            answer = second if second["verdict"] in SECOND else answer
        channel.write(json.dumps({"name": question["name"], **answer}) + "\n")
        channel.flush()


def _ask(question: dict[str, Any], memory: int, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run one question in a child and say how it ended."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as report, tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            _in_child(question, memory, namespace, report, output)
        try:
            ending = _watch(child, question["seconds"], memory)
        except KeyboardInterrupt:
            _kill_group(child)
            raise
        answer = ending or _read(report)
        output.seek(0)
        printed = output.read(TEXT * 4).decode("utf-8", "replace")[:TEXT]
    return {**answer, "output": printed, "seconds": time.monotonic() - began}


def _read(report: BinaryIO) -> dict[str, Any]:
    report.seek(0)
    text = report.read()
    if not text:
        return {"verdict": "crash", "message": "the code ended the Python process (os._exit?)"}
    found: dict[str, Any] = json.loads(text)
    return found


def _watch(child: int, seconds: int, memory: int) -> dict[str, Any] | None:
    """Wait for the child; what ended it, or None if it ended by itself."""
    began, process = time.monotonic(), psutil.Process(child)
    ended = None
    base = psutil.Process().memory_info().rss
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _kill_group(child)  # what it may have started
            return ended or _by_signal(status, seconds)
        with contextlib.suppress(psutil.Error):
            if process.memory_info().rss > base + memory:
                ended = _memory(memory)
                _kill_group(child)
        if time.monotonic() - began > PATIENCE * seconds:
            ended = _time(seconds)
            _kill_group(child)
        time.sleep(POLL_SECONDS)


def _kill_group(child: int) -> None:
    for kill in (os.killpg, os.kill):  # before it has its group there is only itself
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)


def _by_signal(status: int, seconds: int) -> dict[str, Any] | None:
    if not os.WIFSIGNALED(status):
        return None
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return _time(seconds)
    return {"verdict": "crash", "message": f"the code crashed the Python process ({signal.Signals(number).name})"}


def _time(seconds: int) -> dict[str, Any]:
    message = f"still running after {seconds} s: is there a loop that never ends?"
    return {"verdict": "time", "message": message}


def _memory(memory: int) -> dict[str, Any]:
    return {"verdict": "memory", "message": f"took more than {memory / 2**20:.0f} MiB of memory"}


def _in_child(
    question: dict[str, Any], memory: int, namespace: dict[str, Any], report: BinaryIO, output: BinaryIO
) -> None:
    """Never returns."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    _limit(question["seconds"], memory)
    answer = _run(question, memory, namespace)
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os.write(report.fileno(), json.dumps(answer).encode())
    os._exit(0)


def _limit(seconds: int, memory: int) -> None:
    """Soft limits; where a system does not know one, watching has to do."""
    space = psutil.Process().memory_info().vms + ROOM * memory
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_AS, space),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _run(question: dict[str, Any], memory: int, namespace: dict[str, Any]) -> dict[str, Any]:
    try:
        for source, own in question["cells"]:
            _cell(source, own, namespace)
        exec(_compiled(question["test"], "the test"), namespace)  # noqa: S102
    except Wrong as error:
        drawn = {"expected": error.expected, "got": error.got}
        return {"verdict": "wrong", "message": error.message, "hint": error.hint, **drawn}
    except MemoryError:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
        return _memory(memory)
    except NotImplementedError as error:
        return {"verdict": "empty", "message": str(error) or "not answered yet", "again": True}
    except SystemExit:
        return {"verdict": "crash", "message": "the code ends the program (sys.exit or quit): take that out"}
    except BaseException as error:  # whatever a student's code raises
        return {"verdict": "error", "message": _explain(error), "again": isinstance(error, NameError)}
    return {"verdict": "ok", "message": ""}


def _cell(source: str, own: bool, namespace: dict[str, Any]) -> None:
    """Run a cell of the student's; errors count in the answer only."""
    if own:
        exec(_compiled(source, "your answer"), namespace)  # noqa: S102
        return
    with contextlib.suppress(BaseException):
        exec(_compiled(source, "another cell"), namespace)  # noqa: S102


def _compiled(source: str, name: str) -> Any:
    """Code whose lines a traceback can show."""
    linecache.cache[f"<{name}>"] = (len(source), None, source.splitlines(keepends=True), f"<{name}>")
    return compile(source, f"<{name}>", "exec")


def _explain(error: BaseException) -> str:
    """The error and the last line of the student's own that led there."""
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1][:TEXT]
    if isinstance(error, SyntaxError):
        return f"{text} (line {error.lineno} of {(error.filename or '').strip('<>')}: {(error.text or '').strip()})"
    mine = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "<your answer>"]
    return f"{text} (line {mine[-1].lineno} of your answer: {mine[-1].line})" if mine else text


if __name__ == "__main__":
    main()
