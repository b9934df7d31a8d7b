"""Ctrl-C while a command's imports run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import PROJECT

SLOW = "print('importing', flush=True)\nimport time\ntry:\n    time.sleep(60)\nexcept BaseException:\n    pass\n"
"""A package that does with whatever is raised in it what some do."""


def interrupted(tmp_path: Path, words: list[str], ignored: bool = False) -> tuple[int, str]:
    """Exit code and standard error of a command that is interrupted while it imports numpy."""
    (tmp_path / "numpy.py").write_text(SLOW, encoding="utf-8")
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    process = subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}", "RUNS": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    if ignored:
        process.terminate()
    return process.wait(), process.communicate()[1]


@pytest.mark.parametrize("module", ["projects.mobilesam.tools.segment", "common.foundations.masked_lm"])
def test_it_is_one_word(tmp_path: Path, module: str) -> None:
    assert interrupted(tmp_path, ["-m", module, "fit"]) == (130, "interrupted\n")


def test_who_ignores_it_goes_on(tmp_path: Path) -> None:
    """As under nohup."""
    code, said = interrupted(tmp_path, ["-m", "common.foundations.masked_lm", "fit"], ignored=True)
    assert code == -signal.SIGTERM
    assert said == ""


def test_programs_of_others_have_it_as_usual() -> None:
    code = "import common, signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert not process.returncode


def test_commands_have_it_as_usual_once_they_run() -> None:
    code = (
        "import sys; sys.orig_argv = ['python', '-m', 'projects.x']\n"
        "import common, signal; first = signal.getsignal(signal.SIGINT)\n"
        "from common.errors import user_errors\n"
        "main = user_errors(lambda: signal.getsignal(signal.SIGINT) is first or first is signal.default_int_handler)\n"
        "sys.exit(main())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert not process.returncode
