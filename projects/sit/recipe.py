"""Self-slimmed vision transformers: which ways of having fewer tokens are compared, and the stages of each."""

from typing import Any

from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

Settings = dict[str, Any]
LAYOUTS: dict[str, dict[str, Settings]] = {
    "mini": {
        "": {"after": [1, 2], "keep": 0.25, "hard": [10, 3]},
        "_mild": {"after": [1, 2], "keep": 0.5, "hard": [20, 10]},
    },
    "cifar10": {
        "": {"after": [1, 2], "keep": 0.25, "hard": [19, 5]},
        "_mild": {"after": [1, 2], "keep": 0.5, "hard": [34, 18]},
    },
    "paper": {
        "": {"after": [1, 2, 3], "keep": 0.5, "hard": [102, 53, 26]},
        "_mild": {"after": [9, 12, 14], "keep": 0.5, "hard": [103, 53, 26]},
    },
}
"""Where tokens get fewer. Dropping and pooling leave so many more that they cost as much as TSM and its own work."""
WORDS = {
    "random": "tokens dropped by chance, logits of the teacher",
    "topk": "tokens dropped by the class token's attention, logits of the teacher",
    "pool": "neighbouring tokens averaged, logits of the teacher",
    "tsm": "TSM, labels alone",
    "tsm_logits": "TSM, logits of the teacher",
    "tsm_other": "TSM, labels and a convolutional teacher (L_hard on a second token)",
    "tsm_frd": "TSM, feature recalibration distillation: the paper's",
}
TINY = {"dim": 320, "depth": 14, "heads": 5}
MEDIUM = {"dim": 512, "depth": 20, "heads": 8, "drop_path": 0.1}
LARGE = {
    "dim": 768, "depth": 24, "heads": 12, "stem": "conv6", "skip": 3.0, "image_size": 288, "drop_path": 0.3,
    "checkpointing": True,
}  # fmt: skip
NARROW = {"dim": 32, "heads": 2}
"""Of a rehearsal's LV-ViTs."""
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
    kept = {"teacher", "random", "topk", "pool", "tsm_other", "tsm_frd", "teacher_large", "large", "deit"}
    return {name: arm for name, arm in found.items() if name in kept}


def small(data: str) -> dict[str, Arm]:
    """Teachers that are trained here, and students of one of them."""
    teacher = Stage("teacher", "projects.sit.train", shared=True, base="train")
    other = Stage("convolutions", "projects.sit.train", shared=True, base="train")
    settings = {"model.teacher_weights": teacher.weights}
    second = {"model.other.name": "test_resnet", "model.other.classes": 10, "model.other_weights": other.weights}
    words = "the teacher, with all tokens: where the students begin"
    found = {"teacher": Arm([evaluation(teacher.weights, {}, shared=True)], words)}
    convolutional = {"model.net": {"name": "test_resnet", "classes": 10}}
    found["teacher_other"] = Arm([evaluation(other.weights, convolutional, shared=True)], "the convolutional teacher")
    found |= students(settings, LAYOUTS[data][""], second, "")
    milder = students(settings, LAYOUTS[data]["_mild"], second, "_mild")
    return found | {
        name: arm for name, arm in milder.items() if name not in ("pool_mild", "tsm_mild", "tsm_other_mild")
    }


def imagenet(narrow: Settings) -> dict[str, Arm]:
    """LV-ViT-S, slimmed early (SiT-XS, the unsuffixed arms) and late (SiT-S, "_mild"); the other sizes; DeiT-S."""
    small = prefixed("model.net", narrow)
    settings = small | {"model.teacher_weights": weights("small")}
    second = {"model.other.name": REGNET}
    found = {"teacher": Arm([evaluation(weights("small"), small, shared=True)], "LV-ViT-S, as published")}
    found |= students(settings, LAYOUTS["paper"][""], second, "")
    found |= students(settings, LAYOUTS["paper"]["_mild"], second, "_mild")
    for size, (name, net, layout) in OTHER_SIZES.items():
        sizes = prefixed("model.net", {"drop_path": 0.0} | net | narrow)
        pictures = {"data.image_size": 288, "data.resize": 329} if size == "large" else {}
        policy = {"data.policy": "rand-n3-m9-mstd0.5-inc1"} if size == "large" else {}
        whole = evaluation(weights(size), sizes | pictures, shared=True)
        found[f"teacher_{size}"] = Arm([whole], f"{name}, as published")
        given = sizes | pictures | policy | {"model.teacher_weights": weights(size)}
        found[size] = Arm(student(given, layout), f"{name}, slimmed by TSM and FRD")
    deit: Settings = {"model.net.name": DEIT}
    found["teacher_deit"] = Arm([evaluation(None, deit, shared=True)], "DeiT-S, as timm has it")
    found["deit"] = Arm(student(deit, DEIT_LAYOUT), "DeiT-S, slimmed by TSM and FRD")
    return found


def students(settings: Settings, layout: Settings, second: Settings, suffix: str) -> dict[str, Arm]:
    """Every way of having fewer tokens, at one cost.

    Args:
        settings: of the network and its teacher.
        layout: where tokens get fewer, and how many dropping and pooling leave.
        second: the other teacher.
    """
    soft = {key: value for key, value in layout.items() if key != "hard"}
    none = {"model.lambda_token": 0.0, "model.lambda_logits": 0.0}
    logits = {"model.lambda_token": 0.0}
    hard = {
        kind: ({"after": layout["after"], "kept": layout["hard"], "kind": kind}) for kind in ("random", "topk", "pool")
    }
    ways = {kind: (given, logits) for kind, given in hard.items()}
    ways |= {
        "tsm": (soft, none),
        "tsm_logits": (soft, logits),
        "tsm_other": (soft, none | {"model.net.distilled": True} | second),
        "tsm_frd": (soft, {}),
    }
    return {
        name + suffix: Arm(
            student(settings | own, given), WORDS[name] + suffix.replace("_", ", "), name + suffix == "tsm_frd"
        )
        for name, (given, own) in ways.items()
    }


def student(settings: Settings, layout: Settings) -> list[Stage]:
    """A slimmed network, trained and measured."""
    slimming = prefixed("model.slimming", layout)
    stage = Stage("slim", "projects.sit.slim", settings | slimming)
    measured = {
        k: v for k, v in settings.items() if k.startswith("model.net.") or k in ("data.image_size", "data.resize")
    }
    return [evaluation(stage.weights, measured | slimming)]


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
