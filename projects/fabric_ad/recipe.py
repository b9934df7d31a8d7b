"""Fabric anomaly detection: which arms are compared, and the stages each of them consists of."""

from typing import Any

from common.recipe import Arm, Download, Recipe, Scale, Stage

HOME = "projects.fabric_ad"
SEEN, SEVERAL, UNSEEN = ("twill",), ("twill", "satin", "basket"), ("plain", "herringbone")
"""Drawn fabrics that are trained on, each by itself (one, for want of minutes); those that are trained on together; and
those that are tested after that."""
TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
TYPES = ("type1cam1", "type2cam2", "type3cam1", "type4cam2", "type5cam2", "type6cam2", "type7cam2", "type8cam1",
         "type9cam2", "type10cam2")  # fmt: skip
SETS = {
    "aitex": (f"{HOME}.sources.Aitex", tuple(f"{k:02d}" for k in range(7))),
    "tilda": (f"{HOME}.sources.Tilda", ("c1r1", "c1r3", "c2r2", "c2r3", "c3r1", "c3r3", "c4r1", "c4r3")),
    "industrial": (f"{HOME}.sources.MVTec", TYPES),
}
"""The paper's other data sets: what reads them, and their categories."""
WORDS = {
    "residual": "residual reverse distillation: the paper's student",
    "dg": "the same without residual links: the paper's variant for fabrics that are not trained on",
    "no_sspcab": "residual, its bottleneck without SSPCAB",
    "no_attention": "residual, without the softmax attentions",
    "rd": "RD4AD: its own bottleneck, decoder, loss and map",
    "forward": "STPM: a student that sees the picture, with the method's loss and map",
}
STUDENTS = tuple(WORDS)
Settings = dict[str, Any]


def arms(scale: Scale) -> dict[str, Arm]:
    """Drawn fabrics at mini scale; else MVTec AD's textures, and the paper's other data sets for its two students."""
    if scale == "mini":
        weave = Stage("weave", f"{HOME}.weave", run="predict", shared=True)
        teacher = Stage("teacher", f"{HOME}.teacher", shared=True)
        given = {"data.source.init_args.root": weave.output("cloth"), "model.teacher_weights": teacher.weights}
        found = compared(given, SEEN) | unseen(given, SEVERAL, UNSEEN)
        return {name: arm for name, arm in found.items() if name != "no_attention"}  # for want of minutes
    if scale == "rehearsal":  # every kind of student, every switch of training and every layout of files once
        found = compared({}, TEXTURES[:1]) | ablations(TEXTURES[:1])
        found |= of_set("aitex", ("00",)) | of_set("tilda", ("c1r1",))
        found |= unseen(source("industrial"), TYPES[:2], TYPES[2:3])
        left_out = ("no_attention", "no_sspcab", "resnet18", "residual_aitex", "residual_tilda")
        return {name: arm for name, arm in found.items() if name not in left_out and not name.startswith("dg_")}
    found = compared({}, TEXTURES) | ablations(TEXTURES)
    for name, (_, categories) in SETS.items():
        found |= of_set(name, categories)
    return found | unseen(source("industrial"), TYPES[:7], TYPES[7:])


def arms_with(data: str) -> dict[str, Arm]:
    """The ten photographs: pieces of all of them together; and trained on seven, tested on three."""
    teacher = Stage("teacher", f"{HOME}.teacher", shared=True)
    given = {"model.teacher_weights": teacher.weights}
    return compared(given, ("all",)) | unseen(given, TYPES[:7], TYPES[7:])


def compared(given: Settings, categories: tuple[str, ...]) -> dict[str, Arm]:
    """A student for each category; and without training, the method's under another map, and a memory."""
    trained = {kind: {name: train(kind, given, (name,)) for name in categories} for kind in STUDENTS}
    found = {
        kind: Arm([measure(kind, given, categories, trained[kind])], words, method=kind == "residual")
        for kind, words in WORDS.items()
    }
    equal = {"model.weighting": "equal"}
    return found | {
        "equal_levels": Arm(
            [measure("residual", given | equal, categories, trained["residual"])],
            "residual, all levels weighing the same in the map",
        ),
        "knn": Arm([measure("knn", given, categories, {})], "nearest neighbours among the teacher's features"),
    }


def unseen(given: Settings, seen: tuple[str, ...], tested: tuple[str, ...]) -> dict[str, Arm]:
    """One student for several fabrics, tested on others."""
    found = {}
    for kind in ("residual", "dg"):
        stages = [measure(kind, given, tested, {"all": train(kind, given, seen)})]
        found[f"{kind}_unseen"] = Arm(stages, f"{kind}, trained on {len(seen)} fabrics together, tested on others")
    return found


def ablations(categories: tuple[str, ...]) -> dict[str, Arm]:
    """Another teacher, and the official code's ways."""
    other = {"model.teacher.init_args.name": "resnet18.a1_in1k"}
    smaller = {c: train("residual", other, (c,)) for c in categories}
    found = {"resnet18": Arm([measure("residual", other, categories, smaller)], "residual, its teacher a ResNet-18")}
    released = {c: train("residual", {"model.frozen_norms": True}, (c,)) for c in categories}
    found["released"] = Arm(
        [measure("residual", {"model.rows": True}, categories, released)],
        "residual as released: batch norms frozen after an epoch, maps smoothed along rows alone",
    )
    return found


def of_set(name: str, categories: tuple[str, ...]) -> dict[str, Arm]:
    """The paper's two students and RD4AD on one of its other data sets."""
    found = {}
    for kind in ("residual", "dg", "rd"):
        trained = {category: train(kind, source(name), (category,)) for category in categories}
        stages = [measure(kind, source(name), categories, trained)]
        found[f"{kind}_{name}"] = Arm(stages, f"{kind} on {name}")
    return found


def source(name: str) -> Settings:
    return {"data.source.class_path": SETS[name][0], "data.source.init_args.root": f"$DATA_ROOT/{name}"}


def train(kind: str, given: Settings, categories: tuple[str, ...]) -> Stage:
    return Stage(kind, f"{HOME}.distill", given | {"data.categories": list(categories)}, base="student")


def measure(kind: str, given: Settings, categories: tuple[str, ...], trained: dict[str, Stage]) -> Stage:
    weights = {f"model.weights.{name}": stage.weights for name, stage in trained.items()}
    settings = given | weights | {"data.categories": list(categories)}
    return Stage(f"evaluate_{kind}", f"{HOME}.evaluate", settings, "test", base="evaluate")


RECIPE = Recipe(
    title="Distillation-based fabric anomaly detection",
    modality="anomaly detection",
    arms=arms,
    arms_with=arms_with,
    data={
        "textile": Download(
            name="ten photographs of the Industrial Textile Dataset",
            path="$DATA_ROOT/textile",
            source="github.com/SimonThomine/IndustrialTextileDataset, folder images",
            gigabytes=0.002,
            licence="MIT",
            layout="type1cam1.png, type2cam2.png, ... type10cam2.png",
        )
    },
    downloads=(
        Download(
            name="MVTec AD: carpet, grid, leather, tile, wood",
            path="$DATA_ROOT/mvtec_ad",
            source="mvtec.com/company/research/datasets/mvtec-ad",
            gigabytes=1.6,
            licence="CC BY-NC-SA 4.0",
            layout="<category>/{train/good,test/<fault>}/*.png, <category>/ground_truth/<fault>/*_mask.png",
        ),
        Download(
            name="AITEX Fabric Image Database",
            path="$DATA_ROOT/aitex",
            source="aitex.es/afid: Defect_images.7z, NODefect_images.7z, Mask_images.7z",
            gigabytes=0.2,
            licence="not stated",
            layout="NODefect_images/<roll>/*.png, Defect_images/*.png, Mask_images/*_mask.png",
        ),
        Download(
            name="TILDA Textile Texture Database",
            path="$DATA_ROOT/tilda",
            source="lmb.informatik.uni-freiburg.de/resources/datasets/tilda.en.html",
            gigabytes=1.3,
            licence="not stated; for research",
            layout="C1R1E0N1.TIF, ... in any folders",
        ),
        Download(
            name="Industrial Textile Dataset: ten fabrics",
            path="$DATA_ROOT/industrial",
            source="the cloud drive named in github.com/SimonThomine/IndustrialTextileDataset",
            gigabytes=None,
            licence="MIT",
            layout="type1cam1/train/good/*.png, type1cam1/test/{good,anomaly}/*.png, ...",
        ),
    ),
    disk=8,
    stand_ins=f"{HOME}.harness.rehearsal:make",
    gpu="a100-80g",
    plan=f"{HOME}.harness.plan:workload",
    speed=f"{HOME}.harness.speed:speed",
)
