"""A segmenter from a file: MobileSAM's or SAM's published checkpoint, or the weights that a stage has left behind."""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from segment_anything.modeling import Sam

from common.errors import UserError, unknown
from common.models.sam import PUBLISHED, SamConfig, build_sam
from common.models.tiny_vit import TinyViT, TinyViTConfig, load_mobile_sam
from common.training.weights import State, load_state

Sizes = TypeVar("Sizes", SamConfig, TinyViTConfig)


def load_segmenter(checkpoint: Path, config: Path | None = None) -> Sam:
    """A SAM with the weights of `checkpoint`, in evaluation mode on the CPU.

    The weights tell whether the image encoder is a TinyViT (`mobile_sam.pt`, a student) or a ViT (`sam_vit_*.pth`, a
    teacher). Sizes are the published ones, unless a configuration says otherwise.

    Args:
        checkpoint: a file of the official formats, or a stage's `weights.safetensors`.
        config: the stage's configuration; None takes the `config.yaml` beside a safetensors file, if there is one.

    Raises:
        UserError: a file is missing, damaged, unsafe or of another model; weights and sizes do not fit each other.
    """
    state = segmenter_state(checkpoint)
    tiny = "image_encoder.patch_embed.seq.0.c.weight" in state
    if not tiny and "image_encoder.pos_embed" not in state:
        raise _no_segmenter(checkpoint, state)
    beside = checkpoint.with_name("config.yaml")
    if config is None and checkpoint.suffix == ".safetensors" and beside.is_file():
        config = beside
    if config is not None:
        sizes, student = read_sizes(config)
        origin = f"the sizes in {config}"
    else:
        sizes, student = SamConfig() if tiny else published_size(checkpoint, state), TinyViTConfig()
        origin = "the published sizes (--config gives others)"
    if tiny and student is None:
        raise UserError(f"{checkpoint} holds a student, but {config} has no model.student: give the student's --config")
    sam = build_sam(sizes, TinyViT(student) if tiny and student else None)
    try:
        load_mobile_sam(sam, state)
    except UserError as error:
        raise UserError(f"{checkpoint} with {origin}: {error}") from error
    return sam.eval()


def segmenter_state(checkpoint: Path) -> State:
    """The tensors of a weight file under SAM's own names, `image_encoder.*`, `prompt_encoder.*`, `mask_decoder.*`.

    What wraps a module puts a prefix before its names: `module.` (DistributedDataParallel), `_orig_mod.` (compiled, at
    any place), `student.` (a checkpoint of `distill`), `model.`, ... Of several segmenters in a file the student's is
    taken.

    Raises:
        UserError: as `load_state` does; two segmenters, neither of which is a student.
    """
    state = {key.replace("_orig_mod.", ""): value for key, value in load_state(checkpoint).items()}
    prefixes = {key[: key.index("image_encoder.")] for key in state if "image_encoder." in key}
    if not prefixes or "" in prefixes:
        return state
    chosen = [prefix for prefix in prefixes if prefix.endswith("student.")] or list(prefixes)
    if len(chosen) > 1:
        raise UserError(f"{checkpoint} holds {len(chosen)} segmenters ({', '.join(sorted(chosen))}): keep one of them")
    return {key.removeprefix(chosen[0]): value for key, value in state.items() if key.startswith(chosen[0])}


def _no_segmenter(checkpoint: Path, state: State) -> UserError:
    return UserError(
        f"{checkpoint} holds no segmenter (its first key is '{next(iter(state), '')}'): give mobile_sam.pt, "
        "sam_vit_h/l/b*.pth, or the weights.safetensors in the run folder of a stage"
    )


def published_size(checkpoint: Path, state: State) -> SamConfig:
    """Which SAM a ViT checkpoint is, by the width of its encoder. UserError for a size that was not published."""
    width = state["image_encoder.pos_embed"].shape[-1]
    for config in PUBLISHED.values():
        if config.embed_dim == width:
            return config
    raise UserError(
        f"{checkpoint} is no published size of SAM (its encoder is {width} wide): "
        "give --config, the config.yaml of the stage that wrote it"
    )


def read_sizes(path: Path) -> tuple[SamConfig, TinyViTConfig | None]:
    """Sizes of the model in a stage's configuration: `model.sam` or `model.teacher`, and `model.student`.

    The image size stands under `data`, because the stages link the model's to it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path} as a configuration: {error}") from error
    model, data = (content.get(part) if isinstance(content, dict) else None for part in ("model", "data"))
    sam = (model.get("sam") or model.get("teacher")) if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(sam, dict):
        raise UserError(f"{path} has neither model.sam nor model.teacher: give the config.yaml of the stage")
    common = {"image_size": data["image_size"]} if isinstance(data, dict) and "image_size" in data else {}
    student = model.get("student")
    if student is not None and not isinstance(student, dict):
        raise UserError(f"{path}: model.student holds no sizes: give the config.yaml of the stage")
    return (
        _sizes(SamConfig, common | sam, path),
        None if student is None else _sizes(TinyViTConfig, common | student, path),
    )


def _sizes(kind: type[Sizes], values: dict[str, Any], path: Path) -> Sizes:
    names = [field.name for field in fields(kind)]
    for name in values:
        if name not in names:
            raise UserError(f"{path}: {unknown(f'setting of {kind.__name__}', name, names)}")
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise UserError(f"{path}: a setting of {kind.__name__} is not a number: {error}") from error
