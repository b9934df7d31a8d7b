"""Export the caption embeddings of pictures: what stage 1 makes the encoder write.

python -m projects.vlv.tools.embed photos/ --run runs/vlv/paper/reconstruct-1a2b3c4d5e/seed0 --out photos.safetensors
python -m projects.vlv.tools.embed a.jpg b.jpg --run <folder> --out both.safetensors --context

The file holds `embeddings` [P, N_q, d], z of each picture, as the text encoder reads them in the place of words; with
`--context` also `contexts` [P, N_q, d], c = T(z), as the U-Net reads them. The pictures' names are a JSON list, `names`
of the metadata, in the same order.
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common.console import printable
from common.data.files import write_atomic
from common.errors import UserError, user_errors
from common.paths import given_path
from projects.vlv.tools.models import Readable, load, source_options


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.vlv.tools.embed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    source_options(command, "stage 1 (reconstruct) or 2 (describe)")
    command.add_argument("--out", type=given_path, required=True, help="a file, <name>.safetensors")
    command.add_argument("--context", action="store_true", help="also what the text encoder makes of them")
    return command


def run(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not options.out.parent.is_dir():
        raise UserError(f"--out: there is no folder {printable(options.out.parent)}")
    readable = Readable(options.images)
    images = readable.begin()
    if images is None:
        return 2
    networks = load(options, words=False)
    import torch
    from safetensors.torch import save

    from common.models.text_to_image import encode_embeddings, load_text_encoder

    text_encoder = None
    if options.context:
        text_encoder = load_text_encoder(networks.text_to_image).eval().to(networks.encoder.queries)
    names, embeddings, contexts = [], [], []
    with torch.no_grad():
        for path, image in images:
            z = networks.encoder(networks.pixels(image))
            names.append(printable(path))
            embeddings.append(z.cpu())
            if text_encoder is not None:
                contexts.append(encode_embeddings(text_encoder, z).cpu())
    tensors = {"embeddings": torch.cat(embeddings)} | ({"contexts": torch.cat(contexts)} if contexts else {})
    write_atomic(options.out, save(tensors, metadata={"names": json.dumps(names)}))
    print(f"{printable(options.out)}: {len(names)} pictures, {list(tensors['embeddings'].shape[1:])} each")
    return 1 if readable.skipped else 0


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
