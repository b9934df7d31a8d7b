"""Efficient controllable multi-task architectures: which trainings and searches are compared, and their stages."""

from typing import Any

from common.recipe import Arm, Download, Recipe, Scale, Stage

SUPERCLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
"""CIFAR-100's, as the hub names them."""


def arms(scale: Scale) -> dict[str, Arm]:
    """Overlapped digits at mini scale; else NYUDv2 in full, the other data sets with the method and its ablation."""
    if scale == "mini":
        return compared("", 3 + 2)
    found = compared("", 4 + 4, classes=False)
    for name in ("pascal", "cityscapes", "cifar100"):
        own = compared(f"_{name}", 0, classes=False)
        found |= {f"{arm}_{name}": own[arm] for arm in ("ecmt", "no_ci")}
    if scale == "rehearsal":
        kept = {"ecmt", "random_search", "film", "ecmt_pascal", "ecmt_cityscapes", "ecmt_cifar100"}
        return {name: arm for name, arm in found.items() if name in kept}
    return found


def compared(data: str, parts: int, classes: bool = True) -> dict[str, Arm]:
    """All arms on a data set.

    Args:
        data: the ending of its configs.
        parts: stages of the encoder and tasks, each with a width.
        classes: all tasks have classes, so that outputs can be distilled.
    """

    def train(**settings: Any) -> Stage:
        given = {f"model.{name.replace('__', '.')}": value for name, value in settings.items()}
        return Stage(f"train{data}", "projects.controllable_mtl.train", given, base=f"base{data}")

    def sweep(trained: Stage, **settings: Any) -> list[Stage]:
        kept = ("space", "widths", "conditioned")  # what a network is, in training as in use
        given = {key: value for key, value in trained.overrides.items() if key.split(".")[1] in kept}
        given |= {f"model.{name}": value for name, value in settings.items()} | {"model.weights": trained.weights}
        module = "projects.controllable_mtl.evaluate"
        return [Stage(f"evaluate{data}", module, given, "test", base=f"base{data}")]

    method = train(distill="features")
    found = {
        "ecmt": Arm(
            sweep(method), "slimmable encoder and decoders, configuration-invariant distillation, search", True
        ),
        "no_ci": Arm(sweep(train(distill="nothing")), "the same without distillation"),
        "random_search": Arm(
            sweep(method, pick="any"), "its network; any encoder that costs as much as the searched one"
        ),
        "uniform_decoders": Arm(sweep(method, rule="uniform"), "its network; decoders of equal widths, searched too"),
        "decoder_only": Arm(sweep(train(distill="features", space__encoder=False)), "only decoders are slimmable"),
        "encoder_only": Arm(sweep(train(distill="features", space__decoders=False)), "only the encoder is slimmable"),
        "unslimmed": Arm(
            sweep(train(distill="nothing", subnets=0)), "the SuperNet alone is trained, then slimmed: a floor"
        ),
    }
    if classes:
        words = "outputs distilled (in place) instead of features"
        found["logit_kd"] = Arm(sweep(train(distill="outputs", distill_weight=1.0)), words)
    half = [0.5] * parts
    for name, widths, concentration, words in (
        ("film", [1.0] * parts, 1.0, "of full width, modulated by the preference"),
        ("film_half", half, 1.0, "of half the width, modulated by the preference"),
        ("film_extreme", [1.0] * parts, 0.05, "of full width, modulated; it learns from extreme preferences above all"),
    ):
        rival = train(distill="nothing", widths=widths, conditioned=True, concentration=concentration)
        found[name] = Arm(sweep(rival), f"a network {words}")
    return found


DOWNLOADS = (
    Download(
        name="NYUDv2 for several tasks",
        path="$DATA_ROOT/NYUD_MT",
        source="NYUD_MT.tgz, as facebookresearch/astmt and SimonVandenhende/Multi-Task-Learning-PyTorch name it",
        gigabytes=None,
        licence="research use (Silberman et al. 2012)",
        layout="gt_sets/{train,val}.txt, images/*.jpg, segmentation/*.png, depth/*.npy, normals/*.npy, edge/*.npy",
    ),
    Download(
        name="PASCAL-Context for several tasks",
        path="$DATA_ROOT/PASCAL_MT",
        source="PASCAL_MT.tgz of the same repositories",
        gigabytes=None,
        licence="Flickr's terms of use",
        layout="ImageSets, JPEGImages, semseg, human_parts, sal_distill, normals_distill, pascal-context",
    ),
    Download(
        name="Cityscapes: leftImg8bit, gtFine, disparity",
        path="$DATA_ROOT/cityscapes",
        source="cityscapes-dataset.com, after registration",
        gigabytes=18.0,
        licence="research use, see its site",
        layout="{leftImg8bit,gtFine,disparity}/{train,val}/<city>/*.png",
    ),
    Download(
        name="CIFAR-100, the hub's parquet files",
        path="$DATA_ROOT/cifar100",
        source="huggingface.co/datasets/uoft-cs/cifar100 (hf download --repo-type dataset --local-dir)",
        gigabytes=0.15,
        licence="none stated; Krizhevsky 2009",
        layout="cifar100/{train,test}-00000-of-00001.parquet: columns img, fine_label, coarse_label",
    ),
    Download(
        name="ResNet-18, ImageNet weights of torchvision",
        path="$WEIGHTS_ROOT/resnet18-f37072fd.pth",
        source="download.pytorch.org/models/resnet18-f37072fd.pth",
        gigabytes=0.05,
        licence="BSD-3-Clause",
    ),
)

RECIPE = Recipe(
    title="Efficient Controllable Multi-Task Architectures",
    modality="multi-task learning",
    arms=arms,
    downloads=DOWNLOADS,
    disk=5,
    stand_ins="projects.controllable_mtl.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.controllable_mtl.harness.plan:workload",
    speed="projects.controllable_mtl.harness.speed:speed",
)
