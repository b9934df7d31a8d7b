"""Where a command runs: the option --device, and what is meant by it."""

from __future__ import annotations

import argparse

from common.errors import UserError


def device_option(command: argparse.ArgumentParser) -> None:
    """Add --device: cpu or cuda."""
    command.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is a GPU, else cpu")


def device_of(device: str | None) -> str:
    """The device that is meant: a GPU where there is one, unless the user names another.

    Raises:
        UserError: a GPU is asked for, and there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave --device out to run on the CPU")
    return device or ("cuda" if torch.cuda.is_available() else "cpu")
