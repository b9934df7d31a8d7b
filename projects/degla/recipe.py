"""DeGLA: which finetunings of CLIP are compared, and the stages each of them consists of."""

from collections.abc import Mapping
from typing import Any

from common.recipe import Arm, Download, Recipe, Scale, Stage

Settings = Mapping[str, Any]
HOME = "projects.degla"
NO_LOCAL: Settings = {"model.weights.igc": 0.0, "model.weights.tgc": 0.0}
NO_TEACHER: Settings = {"model.weights.tgc": 0.0, "model.weights.distillation": 0.0}
CE_CLIP: Settings = {"model.weights.ranking": 0.2, "model.weights.intra_modal": 0.2}
FINETUNED: dict[str, tuple[Settings, str]] = {
    "base": ({**NO_LOCAL, **NO_TEACHER}, "the base loss alone: NegCLIP's, with four negatives of each caption"),
    "ce_clip": ({**NO_LOCAL, **NO_TEACHER, **CE_CLIP}, "CE-CLIP: the base loss, ranking and intra-modal contrast"),
    "base_distilled": (NO_LOCAL, "the base loss with self-distillation"),
    "degla": ({}, "the method: base loss, self-distillation, both local contrasts"),
    "no_igc": ({"model.weights.igc": 0.0}, "the method without image-grounded contrast"),
    "no_tgc": ({"model.weights.tgc": 0.0}, "the method without text-grounded contrast"),
    "no_distill": ({"model.weights.distillation": 0.0}, "the method without self-distillation"),
    "frozen_teacher": ({"model.ema": 1.0}, "the method, but its teacher stays the CLIP that it began as"),
    "released_tgc": ({"model.released_tgc": True}, "the method, TGC's negatives paired as in the released code"),
}
"""What an arm changes in the method's config, and what it is."""


def arms(scale: Scale) -> dict[str, Arm]:
    """The same at every scale; at mini scale the CLIP is one of the world of tiles."""
    clip: Settings = {}
    if scale == "mini":
        foundation = Stage("tile_clip", "common.foundations.clip", shared=True)
        clip = {"model.clip": foundation.output("model")}

    def evaluate(settings: Settings, shared: bool = False) -> Stage:
        return Stage("evaluate", f"{HOME}.evaluate", {**clip, **settings}, "test", shared)

    found = {"clip": Arm([evaluate({}, shared=True)], "CLIP as it is, before any finetuning")}
    for name, (settings, words) in FINETUNED.items():
        stage = Stage("finetune", f"{HOME}.finetune", {**clip, **settings})
        found[name] = Arm([evaluate({"model.weights": stage.weights})], words, method=name == "degla")
    return found


RECIPE = Recipe(
    title="Decoupled Global-Local Alignment for Improving Compositional Understanding",
    modality="image and text",
    arms=arms,
)
