"""DeGLA: which finetunings of CLIP are compared, and the stages each of them consists of."""

from collections.abc import Mapping
from typing import Any

from common.recipe import Arm, Download, Recipe, Scale, Stage

Settings = Mapping[str, Any]
HOME = "projects.degla"
NO_LOCAL: Settings = {"model.weights.igc": 0.0, "model.weights.tgc": 0.0}
NO_TEACHER: Settings = {"model.weights.tgc": 0.0, "model.weights.distillation": 0.0}
CE_CLIP: Settings = {"model.weights.ranking": 0.2, "model.weights.intra_modal": 0.2}
RELEASED = "$WEIGHTS_ROOT/DeGLA.pt"
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
    """The same at every scale. At mini scale the CLIP is one of the world of tiles; elsewhere the official weights are
    measured too, and a rehearsal has only arms whose stages are of different parts.
    """
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
    if scale == "mini":
        return found
    found["released_weights"] = Arm([evaluate({"model.weights": RELEASED}, shared=True)], "the official weights")
    kept = ("clip", "ce_clip", "base_distilled", "degla", "released_tgc", "released_weights")
    return {name: arm for name, arm in found.items() if scale == "paper" or name in kept}


RECIPE = Recipe(
    title="Decoupled Global-Local Alignment for Improving Compositional Understanding",
    modality="image and text",
    arms=arms,
    downloads=(
        Download(
            name="DeGLA's captions of COCO with hard negatives",
            path="$DATA_ROOT/degla/DeGLA.json",
            source="huggingface.co/datasets/wsdwJohn1231/DeGLA; save its JSON under this name",
            gigabytes=0.3,
            licence="MIT",
        ),
        Download(
            "COCO's pictures", "$DATA_ROOT/coco", "cocodataset.org", 21, "Flickr's", "{train2014,val2014,val2017}/"
        ),
        Download(
            name="SugarCrepe",
            path="$DATA_ROOT/sugarcrepe",
            source="github.com/RAIVNLab/sugar-crepe, folder data",
            gigabytes=0.002,
            licence="MIT",
            layout="seven files as replace_obj.json",
        ),
        Download(
            name="VALSE, and its pictures as its README says",
            path="$DATA_ROOT/valse",
            source="github.com/Heidelberg-NLP/VALSE, folder data",
            gigabytes=None,
            licence="MIT; pictures under their own",
            layout="existence.json, ...; beside it visual7w/images/, swig/images_512/, visdial/VisualDialog_val2018/",
        ),
        Download(
            name="ARO, on Visual Genome, COCO and Flickr30k; projects/degla/benches.py says how its files come about",
            path="$DATA_ROOT/aro",
            source="github.com/mertyg/vision-language-models-are-bows",
            gigabytes=None,
            licence="MIT; pictures under their own",
            layout="visual_genome_{relation,attribution}.json, images/, {coco,flickr30k}_order.json; and flickr30k/",
        ),
        Download(
            name="nine of the sets of zero-shot classification",
            path="$DATA_ROOT/imagenet",
            source="CoOp's DATASETS.md (KaiyangZhou/CoOp)",
            gigabytes=180,
            licence="each its own",
            layout="folders side by side, named in common/data/readers/zero_shot_sets.py",
        ),
        Download(
            name="CIFAR-10 and CIFAR-100, the hub's parquet files",
            path="$DATA_ROOT/cifar100",
            source="huggingface.co/datasets/uoft-cs/cifar10 and cifar100 (hf download --repo-type dataset --local-dir)",
            gigabytes=0.3,
            licence="none stated; Krizhevsky 2009",
            layout="cifar100/cifar100/test-*.parquet, cifar10/plain_text/test-*.parquet",
        ),
        Download(
            name="DeGLA's official weights",
            path=RELEASED,
            source="huggingface.co/wsdwJohn1231/DeGLA; save the checkpoint under this name",
            gigabytes=1.8,
            licence="MIT",
        ),
    ),
    disk=20,
    stand_ins=f"{HOME}.harness.rehearsal:make",
    gpu="a100-40g",
    plan=f"{HOME}.harness.plan:workload",
)
