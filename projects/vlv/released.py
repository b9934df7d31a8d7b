"""The authors' own weights, and those that stages leave: both are read into the networks of `model.py`.

Released is a captioner (`lambertxiao/Vision-Language-Vision-Captioner-Qwen2.5-3B` on the hub); what the official code
saves is read too, `model.pt` of stage 2 or a checkpoint of stage 1. Their Florence-2 has the names of Microsoft's code;
ours is transformers' own. VAE and U-Net, which such files may hold, are left out: they are Stable Diffusion's.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from common.data.files import readable
from common.errors import UserError
from common.hub import weight_files
from common.paths import expand
from common.training.weights import State, load_state, load_tied, load_weights, unwrapped
from projects.vlv.model import Captioner, VLVEncoder

Module = TypeVar("Module", bound=nn.Module)

CAPTIONER = {  # beginnings of names in the official stage 2 -> in `Captioner`
    "VLV_model.model.": "encoder.florence.",
    "VLV_model.language_proj.": "encoder.project.",
    "VLV_model.query_embed": "encoder.queries",
    "VLV_model.text_encoder.": "text_encoder.",
    "mlp.layers.": "adapter.",
    "qwen2_model.": "language_model.",
}
ENCODER = {"model.": "florence.", "language_proj.": "project.", "query_embed": "queries"}  # stage 1 -> `VLVEncoder`
FLORENCE = (  # Microsoft's names in Florence-2 -> transformers'
    (r"(vision_tower\.convs\.\d+)\.proj\.", r"\1.conv."),
    (r"\.conv([12])\.fn\.dw\.", r".conv\1."),
    (r"\.(window|channel)_attn\.norm\.", ".norm1."),
    (r"\.(window|channel)_attn\.fn\.", r".\1_attn."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.fn\.net\.", ".ffn."),
    (r"florence\.image_projection$", "florence.multi_modal_projector.image_projection.weight"),
    (r"florence\.image_proj_norm\.", "florence.multi_modal_projector.image_proj_norm."),
    (r"florence\.image_pos_embed\.", "florence.multi_modal_projector.image_position_embed."),
    (r"florence\.visual_temporal_embed\.", "florence.multi_modal_projector.visual_temporal_embed."),
    (r"florence\.language_model\.model\.", "florence.language_model."),
    (r"text_encoder\.text_model\.", "text_encoder."),
)
FILES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}
UNUSED = re.compile(r"florence\.language_model\.(lm_head\.|final_logits_bias)|\.position_ids$")
TIED = (  # names of one and the same tensor, in the order in which they are looked for
    [f"florence.language_model.{name}.weight" for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens")],
    ["language_model.model.embed_tokens.weight", "language_model.lm_head.weight"],
)


def load_captioner(captioner: Captioner, source: str) -> Captioner:
    """Fill a captioner from what stage 2 has left, or from released weights. Returns `captioner`.

    Args:
        source: a file, or a folder or hub id in the layout of transformers.

    Raises:
        UserError: nothing there, damaged, or of another model.
    """
    return _load(captioner, source, CAPTIONER, "encoder.")


def load_encoder(encoder: VLVEncoder, source: str) -> VLVEncoder:
    """Fill an encoder from what stage 1 has left, or from a released encoder or captioner; see `load_captioner`."""
    return _load(encoder, source, ENCODER | {f"VLV_model.{name}": ours for name, ours in ENCODER.items()}, "")


def _load(module: Module, source: str, names: dict[str, str], part: str) -> Module:
    path = expand(source, "the weights")
    if path.suffix in FILES and not is_official(tensor_names(path)):
        return load_tied(module, path)
    state = official_state(source)
    if not is_official(state):
        raise UserError(f"{source} holds no weights of VLV: among {len(state)} tensors there are no queries")
    try:
        return load_weights(module, converted(state, names, module.state_dict(), part))
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def is_official(names: Iterable[str]) -> bool:
    """Whether these are the names of the official code's tensors."""
    return any(name.split(".")[-1] == "query_embed" for name in names)


def tensor_names(file: Path) -> Iterable[str]:
    """Names in a file; the tensors of safetensors are not read."""
    if file.suffix != ".safetensors" or not file.is_file():
        return load_state(file)
    try:
        with readable(file), safe_open(file, "pt") as opened:
            return list(opened.keys())
    except SafetensorError as error:
        raise UserError(f"{file} is truncated or damaged ({error}): download or copy it again") from error


def official_state(source: str) -> State:
    """All tensors of a file, or of a folder or hub id with `model.safetensors`, its parts, or `model.pt`."""
    path = expand(source, "the weights")
    if path.is_file():
        return load_state(path)
    state: dict[str, Tensor] = {}
    for file in weight_files(source, single=("model.safetensors", "model.pt")):
        state |= load_state(file)
    return state


def converted(state: State, names: dict[str, str], own: State, part: str) -> State:
    """An official state under our names.

    Rows that our embedding of words has beyond the official one (transformers' Florence-2 has a token for pictures, and
    rows to fill up to a round number) keep their values: the prompt has no such token.

    Args:
        names: beginnings of names, theirs to ours.
        own: the state that is to be filled.
        part: what the encoder's names begin with.
    """
    found: dict[str, Tensor] = {}
    for name, value in _rooted(unwrapped(state), names).items():
        if ours := our_name(name, names):
            found[ours] = value.T if ours.endswith("image_projection.weight") else value
    for tied in ([part + name for name in TIED[0]], TIED[1]):
        first = next((found[name] for name in tied if name in found), None)
        if first is not None:
            found |= {name: found.get(name, first) for name in tied if name in own}
    for name in (part + tied for tied in TIED[0]):
        if name in found and len(found[name]) < len(own[name]):
            found[name] = torch.cat([found[name].to(own[name]), own[name][len(found[name]) :]])
    return found


def our_name(name: str, names: dict[str, str]) -> str | None:
    """What we call an official tensor; None for one that we have not."""
    start = next((start for start in sorted(names, key=len, reverse=True) if name.startswith(start)), None)
    if start is None:
        return None
    ours = names[start] + name.removeprefix(start)
    for theirs, replacement in FLORENCE:
        ours = re.sub(theirs, replacement, ours)
    return None if UNUSED.search(ours) else ours


def _rooted(state: State, names: dict[str, str]) -> State:
    """Without what stands before all names, where the network was a part of another."""
    query = next(name for name in state if name.split(".")[-1] == "query_embed")
    known = max((start for start in names if query.endswith(start)), key=len)
    root = query.removesuffix(known)
    return {name.removeprefix(root): value for name, value in state.items() if name.startswith(root)}
