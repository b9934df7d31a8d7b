"""Put a tuned encoder back into the model that it came from, for that model's own evaluation kits.

    python -m projects.vqrae.tools.export runs/vqrae/paper/full_stage2-<...>/seed0 exported/internvl3-vqrae

SigLIP models and InternVL keep their heads, tokenizers and language models; nothing is trained (§3.4). The folder is
what `from_pretrained` reads, and so LMMs-Eval, VLMEvalKit and LLaVA's training.
"""

# torch and transformers are imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import printable
from common.errors import UserError, user_errors
from common.paths import given_path
from common.training.runs import settings_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def export(run: Path, out: Path) -> PreTrainedModel:
    """Write the whole model with the encoder of a stage's run folder; returns it.

    Raises:
        UserError: no finished run there, one without a model on the hub, or an encoder of another size.
    """
    with settings_of(run) as settings:
        encoder = settings["model"].get("encoder") or {}
        if not encoder.get("hub"):
            raise UserError(
                f"the encoder of {run} is no part of a model on the hub: there is nothing to put it back into"
            )
        kind, hub = encoder["kind"], str(encoder["hub"])
    from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

    from common.hub import from_pretrained
    from common.training.weights import load_state

    state = load_state(run / "weights.safetensors")
    tuned = {k.removeprefix("encoder.vit."): v for k, v in state.items() if k.startswith("encoder.vit.")}
    whole = from_pretrained(AutoModel if kind == "siglip" else AutoModelForImageTextToText, hub)
    tower = whole.vision_model if kind == "siglip" else whole.model.vision_tower
    own = tower.state_dict()
    wrong = [k for k in tuned if k not in own or own[k].shape != tuned[k].shape]
    untouched = [k for k in own if k not in tuned and not k.startswith("head.")]
    if wrong or untouched:
        raise UserError(f"the encoder of {run} does not fit {hub}: {(wrong + untouched)[0]} differs")
    tower.load_state_dict(tuned, strict=False)
    whole.save_pretrained(out)
    from_pretrained(AutoProcessor, hub).save_pretrained(out)
    return whole


@user_errors
def main(arguments: list[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vqrae.tools.export", description="Export a tuned encoder."
    )
    command.add_argument("run", type=given_path, help="run folder of a stage that trained the encoder")
    command.add_argument("out", type=given_path, help="folder to write the model into")
    options = command.parse_args(arguments)
    export(options.run, options.out)
    print(printable(options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
