"""Write a pipeline that needs no guidance: a folder in diffusers' layout, the updates added to the U-Net's weights.

python -m projects.lora_distill.tools.merge --adapter mine/ --out merged/

    pipe = StableDiffusionPipeline.from_pretrained("merged/")
    pipe(prompt, guidance_scale=1.0)     # 1.0: the student has the guidance in its weights

All other parts are the teacher's. Negative prompts and other scales have no effect on such a student.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from common.console import printable
from common.data.records import json_file
from common.errors import user_errors
from common.hub import hub_file_if_any
from common.paths import given_path
from projects.lora_distill.tools.students import chosen, make_folder, student_options

INDEX = "model_index.json"
PARTS = TypeAdapter(dict[str, Any])
OPTIONAL = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that draw nothing, without which a pipeline is read all the same."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.lora_distill.tools.merge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    student_options(command)
    command.add_argument("--out", type=given_path, required=True, help="folder to write; new, or empty")
    return command


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    student = chosen(options)
    make_folder(options.out)
    student.load().save_pretrained(options.out)
    if (index := hub_file_if_any(student.model, INDEX)) is not None:  # a pipeline, with its own class of scheduler
        parts = json_file(index, PARTS, "the list of a pipeline's parts")
        for name in (*OPTIONAL, "scheduler"):
            if (index.parent / name).is_dir():
                shutil.copytree(index.parent / name, options.out / name, dirs_exist_ok=True)
            elif name in OPTIONAL and name in parts:  # a hub's may not be on this machine
                parts[name] = [None, None]
        (options.out / INDEX).write_text(json.dumps(parts, indent=2), "utf-8")
    print(f"{printable(Path(options.out))}: draws with guidance_scale=1.0 what guidance {student.guidance:g} drew")
    return 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
