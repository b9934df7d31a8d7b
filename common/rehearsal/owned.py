"""What keeps a rehearsal to its stand-ins: variables that lead elsewhere are gone, and no other model is opened.

A stage of a rehearsal runs with STAND_INS, the folder of its stand-ins. The first time it opens a file of a hub's model
there, it says so ("stand-in of bert-base-uncased"); to open one of another hub ends the stage.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError

LEADS_ELSEWHERE = re.compile(
    r"(HF|HUGGING_?FACE|TRANSFORMERS|DIFFUSERS|SENTENCE_TRANSFORMERS|TIMM|OPEN_?CLIP|TORCH_(HOME|HUB|MODEL_ZOO)|PYTORCH_\w*"
    r"CACHE|XDG|WANDB|DATA_ROOT|WEIGHTS_ROOT|STAND_INS)(_|$)"
)
"""Variables by which libraries find models, data, caches, tokens and servers."""

MODEL = re.compile(r"/models--(?P<hub_id>[^/]+)/|/hub/checkpoints/")
"""A file of huggingface_hub's cache, or of torch.hub's."""

SAID = re.compile(r"^stand-in of (\S+)$", re.MULTILINE)


def variables(stand_ins: Path) -> dict[str, str]:
    """The environment of a rehearsal's stages, for `stand_ins` with its folders `data`, `weights` and `hub`.

    Each place is named in each way that a library asks for, the one that it prefers included.
    """
    hub = stand_ins / "hub"
    return {
        "STAND_INS": str(stand_ins),
        "DATA_ROOT": str(stand_ins / "data"),
        "WEIGHTS_ROOT": str(stand_ins / "weights"),
        "HF_HOME": str(hub),
        "HF_HUB_CACHE": str(hub / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(hub / "hub"),
        "SENTENCE_TRANSFORMERS_HOME": str(hub / "hub"),
        "HF_DATASETS_CACHE": str(stand_ins / "cache" / "datasets"),
        "TORCH_HOME": str(stand_ins / "torch"),
        "XDG_CACHE_HOME": str(stand_ins / "cache"),
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",  # made-up figures are nobody's runs
    }


@contextmanager
def without_others() -> Iterator[None]:
    """Without the user's own variables of this kind, for this process and those that it starts."""
    before = dict(os.environ)
    for name in before:
        if LEADS_ELSEWHERE.match(name):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def keep_to(stand_ins: Path) -> None:
    """Have this process open models of the stand-in hub alone, and say which. UserError, there, for any other."""
    inside = f"{stand_ins.resolve()}{os.sep}"
    said: set[str] = set()

    def opened(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        found = MODEL.search(path)
        if found is None:
            return
        if not path.startswith((inside, f"{stand_ins.absolute()}{os.sep}")):
            raise UserError(f"a rehearsal reads its stand-ins alone, and {path}, which this stage opens, is none.")
        hub_id = (found["hub_id"] or "").replace("--", "/")
        if hub_id and hub_id not in said:
            said.add(hub_id)
            print(f"stand-in of {hub_id}", flush=True)

    sys.addaudithook(opened)
