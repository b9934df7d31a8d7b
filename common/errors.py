"""Errors that a user can mend: they end a command with exit code 2 and one message."""

import functools
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import ParamSpec

P = ParamSpec("P")


class UserError(Exception):
    """What is wrong, where, and what to do about it. The command line prints the message and exits with 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest names that do."""
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}."
    return UserError(f"unknown {kind} '{name}': {hint}")


def user_errors(main: Callable[P, int]) -> Callable[P, int]:
    """Have a command's `main` say what the user can mend in one message, and return 2."""

    @functools.wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return command
