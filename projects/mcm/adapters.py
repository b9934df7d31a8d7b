"""Students ready for sampling: from a distillation of this recipe, or from an adapter in peft's format (the released).

unet = load_student(model.unet, "yhzhai/mcm/modelscopet2v-laion", None)
"""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from common.errors import UserError
from common.hub import hub_file
from common.models.lora import Lora, merged, trained_part
from common.paths import expand
from common.training.weights import load_state, load_weights
from projects.mcm.model import VideoUNet, add_updates, build_student

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WHAT = "the student's weights"
ON_THE_HUB = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*){2,}")  # owner, name, folder
NAMED = re.compile(r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_[AB])\.weight")


def load_student(teacher: VideoUNet, weights: str, lora: Lora | None, guidance_dim: int = 256) -> VideoUNet:
    """A student with its low-rank updates merged, frozen.

    Args:
        weights: a distillation's weights.safetensors; or a folder with an adapter, or where that lies on the hub:
            "owner/name/folder".
        lora: of the distillation; an adapter brings its own.
        guidance_dim: of the embedded guidance scale, where there is no `lora`.

    Raises:
        UserError: nothing there, or not weights of this teacher's student.
    """
    if is_adapter(weights):
        unet = _adapted(teacher, weights)
    else:
        unet = build_student(teacher, lora, guidance_dim)
        load_weights(trained_part(unet), expand(weights, WHAT))
    return merged(unet).requires_grad_(False)


def is_adapter(weights: str) -> bool:
    """Whether this names an adapter, which brings its own settings, and not a distillation's file."""
    place = expand(weights, WHAT)
    return place.is_dir() or (not place.exists() and not place.suffix and bool(ON_THE_HUB.fullmatch(weights)))


def _adapted(teacher: VideoUNet, weights: str) -> VideoUNet:
    """The teacher's network with an adapter's updates beside its layers."""
    source, folder = weights, ""
    if not expand(weights, WHAT).is_dir():
        owner, name, rest = weights.split("/", 2)
        source, folder = f"{owner}/{name}", f"{rest}/"
    found = [hub_file(source, f"{folder}{name}") for name in (CONFIG, WEIGHTS)]
    lora, state = _settings(found[0]), _renamed(load_state(found[1]), weights)
    wanted = sorted({name.rpartition(".lora_")[0] for name in state})
    known = {name for name, _ in teacher.named_modules()}
    if strange := [name for name in wanted if name not in known]:
        raise UserError(
            f"{weights} adapts {strange[0]} and {len(strange) - 1} more layers that this teacher does not have: it is "
            "an adapter of another model"
        )
    unet = add_updates(copy.deepcopy(teacher), replace(lora, targets=tuple(wanted)))
    load_weights(trained_part(unet), state)
    return unet


def _settings(file: Path) -> Lora:
    """Rank and scale of an adapter."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Lora(int(content["r"]), float(content["lora_alpha"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{file} does not give the rank `r` and `lora_alpha` of an adapter: write or get it anew"
        ) from error


def _renamed(state: dict[str, Tensor], weights: str) -> dict[str, Tensor]:
    """The names that peft's layers have in a network, from those of its files."""
    parts = {name: NAMED.fullmatch(name) for name in state}
    if strange := [name for name, match in parts.items() if match is None]:
        raise UserError(f"{weights} holds {strange[0]}, which is not part of low-rank updates")
    return {f"{m['module']}.{m['part']}.default.weight": state[name] for name, m in parts.items() if m}
