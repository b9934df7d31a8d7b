"""Stand-ins for the weights that timm and open_clip load from the hub: random, in half precision, in their own layouts.

A plain name ("vit_base_patch16_224", "ViT-B-32") fixes the size, so its stand-in is as large as the release; have
configs/rehearsal choose a small one. Under "hf-hub:<id>" the repository says the size, and the stand-in may be narrow.
"""

import json
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.pretrained import get_pretrained_cfg
from safetensors.torch import save_model
from timm.models import save_for_hf

from common.errors import UserError, unknown
from common.rehearsal.hub import mark_absent, snapshot
from common.rehearsal.tokenizers import unigram

NARROW_TOWER = {"width": 32, "mlp_ratio": 2}


def write_timm(folder: Path, name: str, **sizes: Any) -> None:
    """Write what `timm.create_model(name, pretrained=True)` loads.

    Args:
        folder: a HF_HOME.
        name: as timm's, with or without its tag, or "hf-hub:timm/<name>.<tag>".
        sizes: arguments of the architecture, as `embed_dim=48`; "hf-hub:" names find them in the repository.

    Raises:
        UserError: timm has no such model, or its weights are not on the hub.
    """
    architecture = name.removeprefix("hf-hub:timm/")
    try:
        source = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    except RuntimeError as error:
        raise unknown("timm model", architecture, timm.list_pretrained()) from error
    if source is None or not (hub_id := source.hf_hub_id):
        raise UserError(f"timm's {name} has no weights on the hub, so no stand-in is possible: name another tag.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(architecture, **sizes)
    save_for_hf(model.half(), str(snapshot(folder, hub_id)), model_args=sizes, safe_serialization=True)


def write_open_clip(folder: Path, name: str, tag: str, narrow: bool = False, layers: int | None = None) -> None:
    """Write what `open_clip.create_model(name, pretrained=tag)` loads, or, if narrow, `create_model("hf-hub:<id>")`.

    Args:
        folder: a HF_HOME.
        name: of an architecture that open_clip has, as "ViT-B-32".
        tag: of its weights, as "laion2b_s34b_b79k".
        narrow: widths of 32 at the real resolutions, for "hf-hub:" with the id that `tag` stands for.
        layers: of each tower, if narrow; None for the real depths.

    Raises:
        UserError: open_clip has no such model or tag, or cannot load it from the hub.
    """
    config = open_clip.get_model_config(name)
    if config is None:
        raise unknown("open_clip model", name, open_clip.list_models())
    source = get_pretrained_cfg(name, tag)
    if not source:
        raise unknown(f"weights of open_clip's {name}", tag, open_clip.list_pretrained_tags_by_model(name))
    if not source.get("hf_hub"):
        raise UserError(
            f"open_clip's {name} with {tag} is not on the hub, so no stand-in is possible: name another tag."
        )
    if narrow:
        if "width" not in config["vision_cfg"]:
            raise UserError(
                f"open_clip's {name} has a tower whose size its name fixes: no narrow stand-in is possible."
            )
        config["embed_dim"] = NARROW_TOWER["width"]
        config["vision_cfg"] |= {**NARROW_TOWER, "head_width": 8}
        config["text_cfg"] |= {**NARROW_TOWER, "heads": 4}
        for tower in ("vision_cfg", "text_cfg") if layers else ():
            config[tower]["layers"] = layers
    hub_id, _, file = source["hf_hub"].rpartition("/")
    files = snapshot(folder, hub_id)
    preprocessing = {key: source[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    (files / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}), encoding="utf-8"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{files}", pretrained_text=False)
    save_model(model.half(), str(files / f"{Path(file).stem or 'open_clip_model'}.safetensors"))
    if tokenizer := config["text_cfg"].get("hf_tokenizer_name"):
        files = snapshot(folder, tokenizer)
        unigram().save_pretrained(files)
        mark_absent(files)
