"""Commands end as people and shells expect, whatever the console."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from common.console import printable

COMMAND = """
import sys, time
from common.errors import UserError, user_errors

@user_errors
def main(what):
    if what == "wait":
        print("ready", flush=True)
        time.sleep(60)
    elif what == "much":
        for number in range(100_000):
            print("line", number)
    elif what == "name":
        print("caf\\udce9 \\u2192 \\u00e9")
        print("caf\\udce9 \\u2192 \\u00e9", file=sys.stderr)
    else:
        raise UserError(what)
    return 0

sys.exit(main(sys.argv[1]))
"""


def start(what: str, **options) -> subprocess.Popen:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", COMMAND, what], **options)


def test_an_interrupt_is_130_without_a_traceback():
    process = start("wait")
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"interrupted\n")


def test_a_closed_pipe_is_quiet():
    process = start("much")
    assert process.stdout.readline() == b"line 0\n"
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(timeout=30) == 141


def test_a_pipe_closed_before_anything_was_written_is_quiet():
    process = start("name")  # so little that it is written only at the end
    process.stdout.close()
    assert b"Exception" not in process.stderr.read() and process.wait(timeout=30) == 141


def test_no_output_at_all_is_no_error():
    process = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" name >&-', sys.executable, COMMAND], capture_output=True, timeout=30
    )
    assert process.returncode == 0 and b"Traceback" not in process.stderr


def test_characters_that_a_console_cannot_show_are_escaped():
    for encoding, shown in (("iso-8859-1", b"\xe9"), ("ascii", b"\\xe9"), ("utf-8", b"\xc3\xa9")):
        process = start("name", env={**os.environ, "PYTHONIOENCODING": encoding})
        out, err = process.communicate(timeout=30)
        arrow = "\u2192".encode() if encoding == "utf-8" else rb"\u2192"
        assert process.returncode == 0 and out == err == rb"caf\udce9 " + arrow + b" " + shown + b"\n"


def test_what_a_user_can_mend_is_one_line():
    out, err = (process := start("too little")).communicate(timeout=30)
    assert (process.returncode, out, err) == (2, b"", b"error: too little\n")


def test_names_are_printable():
    assert printable(Path(os.fsdecode(b"caf\xe9/a\nb \x1b[31m.png"))) == r"caf\xe9/a\nb \x1b[31m.png"
    assert printable("Grüße/日本 1.png") == "Grüße/日本 1.png"
