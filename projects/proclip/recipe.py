"""ProCLIP: which trainings of an adapter and an image encoder are compared, and the stages each of them consists of."""

from functools import cache
from typing import Any

from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

Settings = dict[str, Any]
MODULE = "projects.proclip"
BACKBONES = {
    "b32": "ViT-B-32-quickgelu:openai",
    "b16": "ViT-B-16-quickgelu:openai",
    "l14": "ViT-L-14-quickgelu:openai",
    "eva": "EVA02-L-14:merged2b_s4b_b131k",
}
SMALL = "hf-hub:timm/vit_base_patch32_clip_224.openai"
"""The first of them by its hub id, under which a rehearsal has a narrow one."""
SIZES = {"3m": ["cc3m"], "15m": ["cc3m", "cc12m"], "30m": ["cc3m", "cc12m", "yfcc15m"]}
"""Folders of tars under $DATA_ROOT; those of a size begin with those of a smaller one."""
ROOTS = "data.train.init_args.roots"

DIRECT: Settings = {"model.weight": 0.0}
LIT: Settings = {"model.tune_images": False}
PLAIN: Settings = {"model.structure": False}
FROZEN: Settings = {"model.decay": 1.0}
WORDS = {
    "clip": "CLIP with its own text encoder, as it was: what image knowledge there is to keep",
    "direct": "LLM2CLIP: a fresh adapter and the image encoder, the contrastive loss alone",
    "lit": "LiT: a fresh adapter, the image encoder frozen",
    "inherit": "stage 1 alone: no picture is seen",
    "proclip": "both stages",
    "strict": "both stages; stage 1 reads the captions of the pairs alone",
    "no_reg": "both stages, without self-distillation in the second",
    "no_inherit": "the second stage alone, from a fresh adapter",
    "no_struct": "both stages, without the structure term in either",
    "frozen_teacher": "both stages; the teacher stays what CLIP's image encoder was, as in the released loop",
}


class Experiment:
    """A backbone, its data, and what all arms on them share.

    Args:
        tests: embeddings of the sets' texts.
        texts: embeddings of the captions of stage 1.
        pairs: embeddings of the captions of stage 2.
        inherit: settings of every first stage, as the CLIP.
        tune: of every second stage.
        measured: of every evaluation.
    """

    def __init__(
        self, tests: Output, texts: Output, pairs: Output, inherit: Settings, tune: Settings, measured: Settings
    ):
        self.tests, self.texts, self.pairs = tests, texts, pairs
        self.first, self.second, self.measured = inherit, tune, measured
        self.inheritance = self.inherited()

    def inherited(self, texts: Output | None = None, name: str = "inherit", **settings: Any) -> Stage:
        return Stage(
            name, f"{MODULE}.inherit", self.first | {"data.embeddings": texts or self.texts} | settings, base="inherit"
        )

    def tuned(self, before: Stage | None = None, **settings: Any) -> Stage:
        start = {"model.adapter": before.weights} if before else {}
        return Stage("tune", f"{MODULE}.tune", self.second | {"data.embeddings": self.pairs} | start | settings)

    def measure(self, arm: str, adapter: Stage | None = None, visual: Stage | None = None, note: str = "") -> Arm:
        given = {"model.adapter": adapter.weights, "model.embeddings": self.tests} if adapter else {}
        given |= {"model.visual": visual.weights} if visual else {}
        stage = Stage("evaluate", f"{MODULE}.evaluate", self.measured | given, "test", shared=adapter is None)
        return Arm([stage], WORDS[arm] + note, method=arm == "proclip" and not note)

    def arm(self, name: str, before: Stage | None = None, note: str = "", **settings: Any) -> Arm:
        """An arm of both stages, or of the second alone."""
        stage = self.tuned(before, **settings)
        frozen = settings.get("model.tune_images") is False
        return self.measure(name, stage, None if frozen else stage, note)

    def compared(self, note: str = "") -> dict[str, Arm]:
        """LLM2CLIP's tuning and ProCLIP's."""
        return {
            "direct": self.arm("direct", None, note, **DIRECT),
            "proclip": self.arm("proclip", self.inheritance, note),
        }

    def ablations(self) -> dict[str, Arm]:
        """Both stages without one thing each; and frozen image encoders."""
        first, plain = self.inheritance, self.inherited(**PLAIN)
        return {
            "lit": self.arm("lit", **LIT),
            "inherit": self.measure("inherit", first),
            "no_reg": self.arm("no_reg", first, **DIRECT),
            "no_inherit": self.arm("no_inherit"),
            "no_struct": self.arm("no_struct", plain, **PLAIN),
        }


def arms(scale: Scale) -> dict[str, Arm]:
    """The world of tiles at mini scale; else CLIP's models with a Llama, of which a rehearsal runs the smallest."""
    if scale == "mini":
        return tiles()
    if scale == "rehearsal":
        small = published(SMALL, "3m")
        return {"clip": small.measure("clip"), **small.compared(), "inherit": small.ablations()["inherit"]}
    found = {}
    for backbone, clip in BACKBONES.items():
        name = "clip" if backbone == "l14" else f"clip_{backbone}"
        found[name] = published(clip, "3m").measure("clip", note=f", {backbone}")
        for size in SIZES if backbone != "eva" else ("3m",):
            note = "" if (backbone, size) == ("l14", "3m") else f", {backbone}, {size}"
            pair = published(clip, size).compared(note)
            found |= {name if not note else f"{name}_{backbone}_{size}": arm for name, arm in pair.items()}
        large, small = published(BACKBONES["l14"], "3m"), published(BACKBONES["b16"], "3m")
    found["frozen_teacher"] = large.arm("frozen_teacher", large.inheritance, **FROZEN)
    return found | large.ablations() | {"lit_b16_3m": small.arm("lit", None, ", b16, 3m", **LIT)}


def tiles() -> dict[str, Arm]:
    """A small CLIP and a small BERT, foundations both; stage 1 reads captions of all kinds, the pairs show some."""
    clip = {"model.clip": Stage("tile_clip", "common.foundations.clip", shared=True).output("model")}
    bert = {"model.embedder.source": Stage("tile_bert", "common.foundations.masked_lm", shared=True).output("model")}
    tests, texts, pairs = (
        Stage(f"embed_{what}", f"{MODULE}.embed", bert, "predict", shared=True, base="embed").output("embeddings")
        for what in ("tests", "texts", "pairs")
    )
    experiment = Experiment(tests, texts, pairs, clip, clip, clip)
    strict = experiment.inherited(pairs, "inherit_strict")
    found = {"clip": experiment.measure("clip")} | experiment.compared() | experiment.ablations()
    return found | {"strict": experiment.arm("strict", strict)}


@cache
def embedded(what: str) -> Output:
    """Embeddings of LLM2CLIP's Llama: of the pairs' captions, or of all tests' texts."""
    return Stage(f"embed_{what}", f"{MODULE}.embed", run="predict", shared=True, base="embed").output("embeddings")


@cache
def published(clip: str, size: str) -> Experiment:
    """CLIP's weights and LLM2CLIP's Llama; both stages read the same captions."""
    pairs, chosen = embedded("pairs"), {"model.clip": clip}
    data = {ROOTS: [f"$DATA_ROOT/{folder}" for folder in SIZES[size]]}
    return Experiment(embedded("tests"), pairs, pairs, chosen | data, chosen | data, chosen)


CAPTIONS = Download(
    name="CC3M, CC12M and YFCC15M with DreamLIP's captions",
    path="$DATA_ROOT/cc3m",
    source="captions: huggingface.co/datasets/qidouxiong619/dreamlip_long_captions; pictures by img2dataset",
    gigabytes=None,
    licence="captions CC BY 4.0; pictures under their owners' terms",
    layout="cc3m/, cc12m/ and yfcc15m/ with tars of <key>.jpg and <key>.json (projects/proclip/readers.py)",
)
CLASSES = Download(
    name="the eleven classification sets",
    path="$DATA_ROOT/imagenet",
    source="by CoOp's DATASETS.md (KaiyangZhou/CoOp); CIFAR-10 and -100 from the hub (uoft-cs)",
    gigabytes=None,
    licence="each its own",
    layout="as common/data/readers/zero_shot_sets.py says; cifar10/plain_text/*.parquet, cifar100/cifar100/*.parquet",
)
RETRIEVED = Download(
    name="Flickr30k, COCO, ShareGPT4V, Urban-1k, DOCCI, DCI and XM3600",
    path="$DATA_ROOT/coco",
    source="the pages of the sets (projects/proclip/readers.py)",
    gigabytes=None,
    licence="each its own",
    layout="flickr30k/, coco/, sharegpt4v/, urban1k/, docci/, dci/, xm3600/, each as it unpacks",
)
RECIPE = Recipe(
    title="ProCLIP: Progressive Vision-Language Alignment via LLM-based Embedder",
    modality="image-text, LLM embedder",
    arms=arms,
    downloads=(CAPTIONS, CLASSES, RETRIEVED),
    disk=700,
    stand_ins="projects.proclip.harness.rehearsal:make",
    gpu="h100",
    plan="projects.proclip.harness.plan:workload",
    speed="projects.proclip.harness.speed:speed",
)
