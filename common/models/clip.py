"""CLIP as open_clip has it, at any size: towers, tokenizer and what its pictures are normalised with.

    clip = load_clip("ViT-B-16-quickgelu:openai")             # a name of open_clip's and a tag; "hf-hub:<id>"; a folder
    vectors = clip.class_vectors(["cat", "sofa"], ["a photo of a {}."])
    logits = clip.scale * clip.images(pictures) @ vectors.T

Weights of the tag "openai" belong to the names that end in "-quickgelu". A folder is what `save_pretrained` writes,
which open_clip reads too (`local-dir:<folder>`).
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import text_global_pool
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from common.errors import UserError, unknown
from common.hub import explained
from common.paths import expand

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
PADDING = 0  # of CLIP's tokenizer, and of word_tokenizer
HIGHEST_SCALE = 100.0  # of the logits (Radford et al. 2021, section 2.5)


@dataclass
class ClipSizes:
    """Sizes of a small CLIP.

    Attributes:
        image_size: side S of the pictures.
        patch: side of a patch.
        width: of the image tower.
        layers: of the image tower.
        text_width: of the text tower.
        text_layers: of the text tower.
        dim: D of the joint space.
        head: width of an attention head, of both towers.
    """

    image_size: int = 16
    patch: int = 4
    width: int = 64
    layers: int = 3
    text_width: int = 64
    text_layers: int = 2
    dim: int = 64
    head: int = 16


class Clip(nn.Module):
    """Both towers of a CLIP with its tokenizer.

    Args:
        net: open_clip's CLIP; `images` and `texts` work with its CustomTextCLIP too.
        config: as open_clip_config.json has it: model_cfg and preprocess_cfg.
        tokenizer: texts -> ids [N, context].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, config: dict[str, Any], tokenizer: Any):
        super().__init__()
        self.net: Any = net
        self.config, self.tokenizer = config, tokenizer
        for name in ("mean", "std"):
            values = torch.tensor(config["preprocess_cfg"][name]).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def image_size(self) -> int:
        """Side of the pictures, pixels."""
        size = self.net.visual.image_size
        return int(size[0] if isinstance(size, Sequence) else size)

    @property
    def dim(self) -> int:
        """D of the joint space."""
        return int(self.config["model_cfg"]["embed_dim"])

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with: a number."""
        return self.net.logit_scale.exp().clamp(max=HIGHEST_SCALE)

    def images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] -> unit vectors [B, D]."""
        return F.normalize(self.net.encode_image(self.normalised(images)), dim=-1)

    def texts(self, texts: Sequence[str] | Tensor) -> Tensor:
        """Texts, or their ids [N, context] -> unit vectors [N, D]."""
        ids = (texts if isinstance(texts, Tensor) else self.tokens(texts)).to(self.mean.device)
        if isinstance(self.net, open_clip.CLIP) and self.net.attn_mask is not None:
            ids = ids[:, : int((ids != PADDING).any(0).sum())]  # the tower looks back alone: what follows is never seen
            return F.normalize(prompted_text(self.net, ids, self.net.token_embedding(ids)), dim=-1)
        return F.normalize(self.net.encode_text(ids), dim=-1)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """-> ids [N, context]; what is longer is cut."""
        return self.tokenizer(list(texts))

    def normalised(self, images: Tensor) -> Tensor:
        """Pictures in [0, 1], as the image tower wants them."""
        return (images - self.mean) / self.std

    @torch.no_grad()
    def class_vectors(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Of each class the mean over templates ("a photo of a {}.") of its unit vectors, again of length 1: [C, D]."""
        vectors = [
            self.texts([template.replace("{}", name) for template in templates]).mean(0, keepdim=True) for name in names
        ]
        return F.normalize(torch.cat(vectors), dim=-1)

    def save_pretrained(self, folder: Path) -> None:
        """Write what `load_clip` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        save_model(self.net, str(folder / WEIGHTS))
        if hasattr(self.tokenizer, "save_pretrained"):
            self.tokenizer.save_pretrained(str(folder))


def build_clip(sizes: ClipSizes, tokenizer: PreTrainedTokenizerBase) -> Clip:
    """A small CLIP of random weights.

    Args:
        tokenizer: of words (`common.data.words.word_tokenizer`), with a length and with ends.
    """
    model = {
        "embed_dim": sizes.dim,
        "vision_cfg": {
            "image_size": sizes.image_size,
            "patch_size": sizes.patch,
            "width": sizes.width,
            "layers": sizes.layers,
            "head_width": sizes.head,
        },
        "text_cfg": {
            "context_length": tokenizer.model_max_length,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": "here",  # its files lie beside the weights
            "width": sizes.text_width,
            "heads": sizes.text_width // sizes.head,
            "layers": sizes.text_layers,
            "pad_id": tokenizer.pad_token_id,
            "eos_id": tokenizer.eos_token_id,
            "pool_type": "eos",
        },
    }
    net = open_clip.CLIP(**copy.deepcopy(model))
    return Clip(net, {"model_cfg": model, "preprocess_cfg": HALF}, Words(tokenizer))


class Words:
    """A tokenizer of transformers, called as open_clip's are."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    def __call__(self, texts: list[str]) -> Tensor:
        """-> ids [N, context]."""
        return self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids

    def save_pretrained(self, folder: str) -> None:
        self.tokenizer.save_pretrained(folder)


def load_clip(source: str) -> Clip:
    """A CLIP with its weights.

    Args:
        source: "<name>:<tag>" of open_clip's, as "ViT-B-16-quickgelu:openai"; "hf-hub:<id>"; or a folder that
            `Clip.save_pretrained` or open_clip has written.

    Raises:
        UserError: no such model, tag or folder, or it cannot be read.
    """
    if source.startswith("hf-hub:"):
        name, tag, place = source, None, source
    elif (folder := expand(source, "the CLIP")).is_dir():
        if not (folder / CONFIG).is_file():
            raise UserError(f"{folder} is no CLIP: there is no {CONFIG} in it")
        name, tag, place = f"local-dir:{folder}", None, str(folder)
    else:
        name, _, tag = source.partition(":")
        place = source
        if not tag or "/" in source:
            raise UserError(
                f"no CLIP at '{source}': give a folder, hf-hub:<id>, or open_clip's name and tag, as "
                "ViT-B-16-quickgelu:openai"
            )
        if name not in open_clip.list_models():
            raise unknown("open_clip model", name, open_clip.list_models())
        if tag not in (tags := open_clip.list_pretrained_tags_by_model(name)):
            raise unknown(f"weights of open_clip's {name}", tag, tags)
    with explained("CLIP", place):
        net, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=tag, pretrained_text=False)
        del preprocess
        tokenizer = open_clip.get_tokenizer(name)
    return Clip(net, _config(name, net), tokenizer)


def _config(name: str, net: Any) -> dict[str, Any]:
    """What open_clip_config.json says, or would say, of a net that open_clip has made."""
    if name.startswith("local-dir:"):
        found = json.loads((Path(name.removeprefix("local-dir:")) / CONFIG).read_text(encoding="utf-8"))
        model = found["model_cfg"]
    elif name.startswith("hf-hub:"):
        model = {"embed_dim": net.visual.output_dim}
    else:
        model = open_clip.get_model_config(name)
    shown = net.visual.preprocess_cfg
    return {"model_cfg": model, "preprocess_cfg": {key: tuple(shown[key]) for key in ("mean", "std")}}


def prompted_image(visual: Any, images: Tensor, prompts: Tensor) -> Tensor:
    """The image tower with learned tokens, not normalised: [B, D].

    The first n go after the patches, before the first layer norm and without a position; at the input of the next
    blocks the last n tokens are replaced by the prompts of that depth. Later blocks keep them (Jia et al. 2022).

    Args:
        visual: open_clip's VisionTransformer.
        images: [B, 3, S, S], normalised.
        prompts: [depth, n, width], depth at least 1.
    """
    tokens = visual.conv1(images).flatten(2).transpose(1, 2)
    first = visual.class_embedding.expand(len(tokens), 1, -1).to(tokens.dtype)
    tokens = torch.cat([first, tokens], 1) + visual.positional_embedding.to(tokens.dtype)
    tokens = visual.ln_pre(torch.cat([tokens, _each(prompts[0], tokens)], 1))
    count = prompts.shape[1]
    for depth, block in enumerate(visual.transformer.resblocks):
        if 0 < depth < len(prompts):
            tokens = torch.cat([tokens[:, :-count], _each(prompts[depth], tokens)], 1)
        tokens = block(tokens)
    found = visual.ln_post(tokens[:, 0])
    return found @ visual.proj if visual.proj is not None else found


def prompted_text(net: Any, ids: Tensor, embedded: Tensor, prompts: Tensor | None = None) -> Tensor:
    """The text tower over embeddings instead of words, not normalised: [N, D].

    Args:
        net: open_clip's CLIP.
        ids: [N, L], which say where a text ends.
        embedded: [N, L, width], without positions; those of the beginning, of n prompts, and of the rest.
        prompts: [depth - 1, n, width]: what replaces the n tokens after the beginning at the inputs of the blocks from
            the second on; None for none.
    """
    tokens = embedded + net.positional_embedding[: embedded.shape[1]].to(embedded.dtype)
    mask = net.attn_mask[: embedded.shape[1], : embedded.shape[1]]
    for depth, block in enumerate(net.transformer.resblocks):
        if prompts is not None and 0 < depth <= len(prompts):
            count = prompts.shape[1]
            tokens = torch.cat([tokens[:, :1], _each(prompts[depth - 1], tokens), tokens[:, 1 + count :]], 1)
        tokens = block(tokens, attn_mask=mask)
    tokens = net.ln_final(tokens)
    found = text_global_pool(tokens, ids, net.text_pool_type, eos_token_id=net.text_eos_id)
    return found @ net.text_projection


def _each(prompts: Tensor, tokens: Tensor) -> Tensor:
    """[n, width] -> [B, n, width], of the tokens' type."""
    return prompts.to(tokens.dtype).expand(len(tokens), -1, -1)
