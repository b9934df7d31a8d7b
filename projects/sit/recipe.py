"""Self-slimmed vision transformers: which ways of having fewer tokens are compared, and the stages of each."""

from typing import Any

from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

Settings = dict[str, Any]
LAYOUTS: dict[str, dict[str, Settings]] = {
    "mini": {
        "": {"after": [1, 2], "kept": [4, 2], "hard": [6, 3]},
        "_mild": {"after": [2, 3], "keep": 0.5, "hard": [22, 12]},
    },
    "cifar10": {
        "": {"after": [1, 2], "kept": [6, 2], "hard": [8, 4]},
        "_mild": {"after": [2, 3], "keep": 0.5, "hard": [39, 21]},
    },
    "paper": {
        "": {"after": [1, 2, 3], "keep": 0.5, "hard": [102, 53, 26]},
        "_mild": {"after": [9, 12, 14], "keep": 0.5, "hard": [103, 53, 26]},
    },
}
"""Where tokens get fewer: early, as in SiT-XS, and late, as in SiT-S. Dropping and pooling leave so many more that they
cost as much as TSM with its own work does."""
FEW: dict[str, Settings] = {
    "mini": {"data.train.init_args.size": 600},
    "cifar10": {"data.train.init_args.count": 2000},
}
"""A part of the pictures for those arms that compare teachers: where labels are rare, there is something to distil."""
WAYS = {
    "random": "tokens dropped by chance",
    "topk": "tokens dropped by the class token's attention",
    "pool": "neighbouring tokens averaged",
    "tsm": "TSM",
}
TAUGHT = {
    "labels": "labels alone",
    "logits": "logits of the teacher",
    "other": "labels and a convolutional teacher (L_hard on a second token)",
    "frd": "feature recalibration distillation",
}
TINY = {"dim": 320, "depth": 14, "heads": 5}
MEDIUM = {"dim": 512, "depth": 20, "heads": 8, "drop_path": 0.1}
LARGE = {
    "dim": 768, "depth": 24, "heads": 12, "stem": "conv6", "skip": 3.0, "image_size": 288, "drop_path": 0.3,
    "checkpointing": True,
}  # fmt: skip
NARROW = {"dim": 32, "heads": 2, "depth": 5}
"""Of a rehearsal's networks, which are all slimmed early."""
DEIT = "hf-hub:timm/deit_small_patch16_224.fb_in1k"
REGNET = "hf-hub:timm/regnety_160.deit_in1k"
DEIT_LAYOUT = {"after": [5, 7, 9], "keep": 0.5}
"""Ours: 1.7 times less work, as much as the abstract speaks of. Where the paper slims DeiT was not found."""
LATE = {"after": [10, 14, 17], "keep": 0.5}
OTHER_SIZES: dict[str, tuple[str, Settings, Settings]] = {
    "tiny": ("LV-ViT-T", TINY, {"after": [1, 2, 3], "keep": 0.5}),
    "medium": ("LV-ViT-M", MEDIUM, LATE),
    "large": ("LV-ViT-L", LARGE, LATE),
}
"""The paper's other networks: name, sizes that are not LV-ViT-S', and where they are slimmed."""


def arms(scale: Scale) -> dict[str, Arm]:
    """The world of motifs at mini scale; else ImageNet with the paper's networks, of which a rehearsal runs some."""
    if scale == "mini":
        return small("mini")
    found = imagenet(NARROW if scale == "rehearsal" else {})
    if scale == "paper":
        return found
    kept = {"teacher", "topk", "other", "frd", "large", "deit"}
    return {name: arm for name, arm in found.items() if name in kept}


def small(data: str) -> dict[str, Arm]:
    """Teachers that are trained here, and students of one of them; teachers are compared with fewer pictures."""
    teacher = Stage("teacher", "projects.sit.train", shared=True, base="train")
    other = Stage("convolutions", "projects.sit.train", shared=True, base="train")
    settings = {"model.teacher_weights": teacher.weights}
    second = {"model.other.name": "test_resnet", "model.other.classes": 10, "model.other_weights": other.weights}
    words = "the teacher, with all tokens: where the students begin"
    found = {"teacher": Arm([evaluation(teacher.weights, {}, shared=True)], words)}
    convolutional = {"model.net": {"name": "test_resnet", "classes": 10}}
    found["teacher_other"] = Arm([evaluation(other.weights, convolutional, shared=True)], "the convolutional teacher")
    few = taught(settings | FEW[data], LAYOUTS[data]["_mild"], second, "a part of the pictures")
    return found | slimmed(settings, LAYOUTS[data]) | few


def imagenet(narrow: Settings) -> dict[str, Arm]:
    """LV-ViT-S, slimmed early (SiT-XS, `frd`) and late (SiT-S, `frd_mild`); the other sizes; DeiT-S."""
    sizes = prefixed("model.net", narrow)
    settings = sizes | {"model.teacher_weights": weights("small")}
    early, late = LAYOUTS["paper"][""], LAYOUTS["paper"]["_mild"]
    found = {"teacher": Arm([evaluation(weights("small"), sizes, shared=True)], "LV-ViT-S, as published")}
    found |= slimmed(settings, LAYOUTS["paper"]) | taught(settings, early, {"model.other.name": REGNET}, "SiT-XS")
    found["frd_mild"] = Arm(student(settings, soft(late)), "SiT-S: LV-ViT-S, slimmed late, FRD")
    for size, (name, net, layout) in OTHER_SIZES.items():
        sizes = prefixed("model.net", {"drop_path": 0.0} | net | narrow)
        if size == "large":
            sizes |= {"data.image_size": 288, "data.resize": 329}
        whole = evaluation(weights(size), without_drop_path(sizes), shared=True)
        found[f"teacher_{size}"] = Arm([whole], f"{name}, as published")
        policy = {"data.policy": "rand-n3-m9-mstd0.5-inc1"} if size == "large" else {}
        stages = student(sizes | policy | {"model.teacher_weights": weights(size)}, soft(early) if narrow else layout)
        found[size] = Arm(stages, f"{name}, slimmed, FRD")
    deit: Settings = {"model.net.name": DEIT}
    found["teacher_deit"] = Arm([evaluation(None, deit, shared=True)], "DeiT-S, as timm has it")
    found["deit"] = Arm(student(deit, soft(early) if narrow else DEIT_LAYOUT), "DeiT-S, slimmed, FRD")
    return found


def slimmed(settings: Settings, layouts: dict[str, Settings]) -> dict[str, Arm]:
    """Every way of having fewer tokens, at one cost and all taught by the teacher's logits; less slimming for two."""
    found = {}
    for suffix, words in (("", "much slimming: "), ("_mild", "less slimming: ")):
        layout = layouts[suffix]
        for kind in WAYS if not suffix else ("topk", "tsm"):
            hard = {"after": layout["after"], "kept": layout["hard"], "kind": kind}
            stages = student(settings | {"model.lambda_token": 0.0}, soft(layout) if kind == "tsm" else hard)
            found[kind + suffix] = Arm(stages, f"{words}{WAYS[kind]}, logits of the teacher")
    return found


def taught(settings: Settings, layout: Settings, second: Settings, what: str) -> dict[str, Arm]:
    """TSM with every way of being taught.

    Args:
        second: the other teacher.
        what: is learned, for people.
    """
    none: Settings = {"model.lambda_token": 0.0, "model.lambda_logits": 0.0}
    ways: dict[str, Settings] = {
        "labels": none,
        "logits": {"model.lambda_token": 0.0},
        "other": none | {"model.net.distilled": True} | second,
        "frd": {},
    }
    return {
        name: Arm(student(settings | own, soft(layout)), f"{what}: TSM, {TAUGHT[name]}", name == "frd")
        for name, own in ways.items()
    }


def soft(layout: Settings) -> Settings:
    """A layout for TSM."""
    return {key: value for key, value in layout.items() if key != "hard"}


def student(settings: Settings, layout: Settings) -> list[Stage]:
    """A slimmed network, trained and measured."""
    slimming = prefixed("model.slimming", layout)
    stage = Stage("slim", "projects.sit.slim", settings | slimming)
    kept = ("model.net.", "data.image_size", "data.resize")
    measured = without_drop_path({key: value for key, value in settings.items() if key.startswith(kept)})
    return [evaluation(stage.weights, measured | slimming)]


def without_drop_path(settings: Settings) -> Settings:
    """It is for training alone."""
    return {key: value for key, value in settings.items() if key != "model.net.drop_path"}


def evaluation(source: Output | str | None, settings: Settings, shared: bool = False) -> Stage:
    """Weights measured: a stage's, a file's, or (None) those that timm has."""
    given = settings if source is None else settings | {"model.weights": source}
    return Stage("evaluate", "projects.sit.evaluate", given, "test", shared)


def prefixed(where: str, values: Settings) -> Settings:
    return {f"{where}.{name}": value for name, value in values.items()}


def weights(size: str) -> str:
    """Where a published LV-ViT lies, under the names that the official README's downloads are to be given."""
    return f"$WEIGHTS_ROOT/lvvit_{size}.pth"


def published(size: str, number: str, gigabytes: float) -> Download:
    return Download(
        name=f"LV-ViT weights, {size}",
        path=weights(size),
        source=f"the table of teachers in github.com/Sense-X/SiT's README: drive.google.com/file/d/{number}",
        gigabytes=gigabytes,
        licence="Apache-2.0 (github.com/zihangJiang/TokenLabeling)",
    )


CIFAR = Download(
    name="CIFAR-10, the hub's parquet files",
    path="$DATA_ROOT/cifar10",
    source="huggingface.co/datasets/uoft-cs/cifar10 (hf download --repo-type dataset --local-dir)",
    gigabytes=0.15,
    licence="none stated; Krizhevsky 2009",
    layout="plain_text/{train,test}-00000-of-00001.parquet: columns img and label",
)
IMAGENET = Download(
    name="ImageNet-1K",
    path="$DATA_ROOT/imagenet",
    source="image-net.org/challenges/LSVRC/2012",
    gigabytes=145,
    licence="non-commercial research; accept the terms at image-net.org",
    layout="train/<synset>/*.JPEG and val/<synset>/*.JPEG",
)
RECIPE = Recipe(
    title="Self-slimmed Vision Transformer",
    modality="efficient vision transformers",
    arms=arms,
    arms_with=small,
    data={"cifar10": CIFAR},
    downloads=(
        IMAGENET,
        published("tiny", "1OAVDvMosOIGTEL4dku8WtC50Dn6k0ngJ", 0.06),
        published("small", "1LeSnPfPqG63jUIIyqag4VOL_ICF783pb", 0.1),
        published("medium", "12nz4MgW9-VUmNoNGaqJyEYlNbN923hmU", 0.2),
        published("large", "1-dInCKaMZbcturbbt6ssWr9oI1aEI1yZ", 0.6),
    ),
    disk=5,
    stand_ins="projects.sit.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.sit.harness.plan:workload",
    speed="projects.sit.harness.speed:speed",
)
