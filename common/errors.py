"""Errors that a user can mend: they end a command with exit code 2 and one message."""

import functools
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import ParamSpec

from common import interrupts
from common.console import has_control, tolerant_console

P = ParamSpec("P")


class UserError(Exception):
    """What is wrong, where, and what to do about it. The command line prints the message and exits with 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest names that do."""
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}."
    return UserError(f"unknown {kind} '{name}': {hint}")


def refuse_control(values: Mapping[str, object]) -> None:
    """UserError for a text in which a character begins a line or moves the cursor: in scripts and logs it would too.

    Args:
        values: what was given, by the name that the user knows it by.
    """
    for name, value in values.items():
        if isinstance(value, str) and has_control(value):
            raise UserError(f"{name} holds a line break or another control character: {value!r}")


def refuse_control_in(options: Namespace) -> None:
    """`refuse_control` for a command line."""
    refuse_control({f"--{name.replace('_', '-')}": value for name, value in vars(options).items()})


def user_errors(main: Callable[P, int]) -> Callable[P, int]:
    """Have a command's `main` end as people and shells expect.

    What the user can mend is one message and exit code 2, Ctrl-C is 130; where nobody reads the output any more
    (`| head`) it is 141, and nothing is said. Characters that the console cannot show do not stop it.
    """

    @functools.wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> int:
        tolerant_console()
        interrupts.as_usual()
        try:
            try:
                return main(*args, **kwargs)
            finally:
                if sys.stdout is not None:  # None: closed by the shell, `>&-`
                    sys.stdout.flush()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 128 + signal.SIGINT
        except BrokenPipeError:
            with suppress(OSError, AttributeError):  # what is still in the buffer has no reader either
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return command
