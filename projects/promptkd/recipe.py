"""PromptKD: which ways of adapting a small CLIP to a domain are compared, and the stages each of them consists of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.recipe import Arm, Download, Recipe, Scale, Stage

HOME = "projects.promptkd"
Settings = Mapping[str, Any]
Described = dict[str, tuple[Settings, str]]

STUDENTS: Described = {
    "promptkd": ({}, "the method: prompts and projector imitate the teacher's probabilities on its class vectors"),
    "projector_only": ({"model.depth": 0}, "the same without prompts"),
    "full_finetune": ({"model.depth": 0, "model.tower": True}, "no prompts, but all of the image tower is trained"),
    "own_text": ({"model.own_text": True}, "the method on class vectors of the student's own text tower"),
    "feature_l1": ({"model.imitated": "l1"}, "imitates the teacher's features in the L1 distance"),
    "feature_mse": ({"model.imitated": "mse"}, "imitates the teacher's features in the squared distance"),
}
"""What an arm changes in the method's config, and what it is."""
RATES: Mapping[str, float] = {"projector_only": 0.001, "full_finetune": 0.00025, "feature_mse": 0.005}
"""At mini scale: rates of arms that have not the method's, each the best of the same grid."""
FEWER: Described = {
    "images_quarter": (
        {"data.train.init_args.size": 200, "trainer.max_epochs": 48, "trainer.check_val_every_n_epoch": 24},
        "a quarter of the pictures",
    ),
    "images_four": (
        {"data.train.init_args.size": 3200, "trainer.max_epochs": 3, "trainer.check_val_every_n_epoch": 3},
        "four times the pictures",
    ),
}
"""At mini scale, for as many steps."""
SWEEPS: Described = {
    "images_quarter": ({"data.per_class": 16}, "16 pictures of each class instead of 64"),
    "images_half": ({"data.per_class": 32}, "32 pictures of each class"),
    "images_double": ({"data.per_class": 128}, "128 pictures of each class"),
    "images_four": ({"data.per_class": 256}, "256 pictures of each class"),
    "projector_1": ({"model.layers": 1}, "a projector of one layer"),
    "projector_3": ({"model.layers": 3}, "a projector of three layers"),
    "temperature_tenth": ({"model.temperature": 0.1}, "temperature 0.1"),
    "temperature_half": ({"model.temperature": 0.5}, "temperature 0.5"),
    "temperature_2": ({"model.temperature": 2.0}, "temperature 2"),
    "temperature_4": ({"model.temperature": 4.0}, "temperature 4"),
    "epochs_40": ({"trainer.max_epochs": 40}, "40 epochs"),
    "epochs_60": ({"trainer.max_epochs": 60}, "60 epochs"),
}
"""At the paper's scale, for as many epochs as there."""
SMALL_TEACHER: Settings = {"data.batch_size": 4, "model.optimiser.lr": 0.0025}
"""The official settings for learning prompts of ViT-B/16 from labels."""
SMALL_SOURCE: Settings = {"model.depth": 3, "model.average_mean": 6, "model.average_std": 10}
"""And for carrying them over to other sets: batch and rate are those of ViT-L/14."""
CLIPS = (
    ("ViT-L-14-quickgelu:openai", "hf-hub:timm/vit_large_patch14_clip_224.openai"),
    ("ViT-B-16-quickgelu:openai", "hf-hub:timm/vit_base_patch16_clip_224.openai"),
    ("ViT-B-32-quickgelu:openai", "hf-hub:timm/vit_base_patch32_clip_224.openai"),
)
"""The teacher's, the student's and a weaker CLIP: by open_clip's names, which fix their sizes, and where the hub has
them, which is where a rehearsal finds narrow ones."""
SETS = {
    "imagenet": "imagenet", "caltech101": "caltech-101", "oxford_pets": "oxford_pets", "stanford_cars": "stanford_cars",
    "oxford_flowers": "oxford_flowers", "food101": "food-101", "fgvc_aircraft": "fgvc_aircraft", "sun397": "sun397",
    "dtd": "dtd", "eurosat": "eurosat", "ucf101": "ucf101",
}  # fmt: skip
"""The sets of `common.data.readers.zero_shot_sets`, which is not read for them here: their folders."""
LIGHT = {"fgvc_aircraft", "oxford_flowers", "dtd"}
"""Sets on which the loss has the weight 200; it is 1000 on the others."""
KINDS = [
    "green disc", "blue square", "yellow triangle", "purple cross", "cyan ring", "orange bar", "white corner",
    "red dome", "green cross", "blue ring", "white disc", "orange square", "red triangle", "white cross",
    "green bar", "yellow bar", "blue corner", "purple dome", "orange cross", "purple bar",
]  # fmt: skip
"""At mini scale the classes that prompts which are carried over have labels of: none of the domain's."""
ELSEWHERE: Settings = {
    **{f"data.{split}.init_args.domain": "plain" for split in ("train", "val")},
    **{f"data.{split}.init_args.kinds": KINDS for split in ("train", "val")},
    **{"data.base": False, "trainer.max_epochs": 30, "model.average_mean": 22.5, "model.average_std": 1.5},
}
"""At mini scale that other set, all classes of it, for as many steps."""
WEAK_STEPS = 300
"""At mini scale: of the student's CLIP, where it stands for one that is weaker than the student."""
CROSS = "the method, its teacher's prompts learned from labels of another set"
CROSS_SUPERVISED = "prompts of the student's own CLIP, learned from labels of another set"
REHEARSED = (
    "zero_shot", "teacher", "supervised", "supervised_plain", "promptkd", "full_finetune", "own_text",
    "feature_mse", "plain_teacher", "promptkd_dtd", "cross_dtd", "cross_supervised_dtd",
)  # fmt: skip
"""Every kind of arm; the others differ in a number."""


@dataclass(frozen=True)
class Domain:
    """The stages on one set of pictures.

    Attributes:
        on: settings that say which set.
    """

    on: Settings

    def teach(self, clip: Any, settings: Settings = {}) -> Stage:  # noqa: B006  # it is read alone
        """Prompts from labels."""
        return Stage("teach", f"{HOME}.teach", {**self.without("test"), "model.clip": clip, **settings})

    def zero_shot(self, clip: Any, words: str) -> Arm:
        return Arm([self._measured({"model.clip": clip})], words)

    def prompted(self, clip: Any, prompts: Stage, words: str) -> Arm:
        return Arm([self._measured({"model.clip": clip, "model.prompts": prompts.weights})], words)

    def student(
        self, clip: Any, teacher: Any, prompts: Stage | None, settings: Settings, words: str, method: bool = False
    ) -> Arm:
        """Distilled from a teacher, with its prompts or without."""
        given = {**self.without("test"), "model.clip": clip, "model.teacher": teacher, **settings}
        if prompts is not None:
            given["model.teacher_prompts"] = prompts.weights
        stage = Stage("distill", f"{HOME}.distill", given)
        return Arm([self._measured({"model.clip": clip, "model.student": stage.weights})], words, method)

    def _measured(self, settings: Settings) -> Stage:
        return Stage("evaluate", f"{HOME}.evaluate", {**self.without("train"), **settings}, "test")

    def without(self, split: str) -> dict[str, Any]:
        return {key: value for key, value in self.on.items() if not key.startswith(f"data.{split}")}


def arms(scale: Scale) -> dict[str, Arm]:
    """The world of tiles at mini scale; else ImageNet with 64 pictures of each class, and then all eleven sets."""
    if scale == "mini":
        return mini()
    found = paper(*(name if scale == "paper" else hub for name, hub in CLIPS))
    return found if scale == "paper" else {name: found[name] for name in REHEARSED}


def paper(big: str, small: str, weak: str) -> dict[str, Arm]:
    few, domain = {"data.per_class": 64}, Domain({})
    students = {name: ({**few, **settings}, words) for name, (settings, words) in (STUDENTS | SWEEPS).items()}
    teacher = domain.teach(big)
    found = compared(domain, big, small, weak, teacher, students, SMALL_TEACHER)
    found["promptkd_b32"] = domain.student(weak, big, teacher, few, "student ViT-B/32, distilled")
    found["promptkd_imagenet"] = domain.student(small, big, teacher, {}, "imagenet: the method, all pictures")
    source = domain.teach(big, {"data.base": False})
    small_source = domain.teach(small, {**SMALL_SOURCE, "data.base": False})
    for name in SETS:
        if name != "imagenet":
            found |= on_set(name, big, small, source, small_source)
    return found


def mini() -> dict[str, Arm]:
    def trained(name: str, **settings: Any) -> Any:
        return Stage(name, "common.foundations.clip", settings, shared=True).output("model")

    big, small = trained("tile_clip"), trained("tile_clip_small")
    weak = trained("tile_clip_small", **{"trainer.max_steps": WEAK_STEPS})
    rated = {
        name: (settings | ({"model.optimiser.lr": RATES[name]} if name in RATES else {}), words)
        for name, (settings, words) in (STUDENTS | FEWER).items()
    }
    domain = Domain({})
    found = compared(domain, big, small, weak, domain.teach(big), rated, {})
    sources = {clip: domain.teach(clip, ELSEWHERE) for clip in (big, small)}
    found["cross"] = domain.student(small, big, sources[big], {}, CROSS)
    found["cross_teacher"] = domain.prompted(big, sources[big], "its teacher itself")
    found["cross_supervised"] = domain.prompted(small, sources[small], CROSS_SUPERVISED)
    return found


def compared(
    domain: Domain, big: Any, small: Any, weak: Any, teacher: Stage, students: Described, small_settings: Settings
) -> dict[str, Arm]:
    """Teachers of all strengths, supervised methods, and students.

    Args:
        small_settings: of learning prompts on the student's own CLIP and on the weak one, where not the teacher's.
    """
    supervised = domain.teach(small, small_settings)
    plain = domain.teach(small, {**small_settings, "model.consistency": False})
    weak_teacher = domain.teach(weak, small_settings)
    own = next(iter(students.values()))[0]
    found = {
        "zero_shot": domain.zero_shot(small, "the student's CLIP as it is: what has to be beaten"),
        "teacher_zero_shot": domain.zero_shot(big, "the teacher's CLIP as it is"),
        "teacher": domain.prompted(big, teacher, "the teacher, its prompts learned from few labels: the upper bound"),
        "supervised": domain.prompted(small, supervised, "PromptSRC: the student's CLIP learns from few labels"),
        "supervised_plain": domain.prompted(small, plain, "the same from cross-entropy alone"),
        "weak_zero_shot": domain.zero_shot(weak, "a CLIP that is weaker than the student's, as it is"),
        "weak_itself": domain.prompted(weak, weak_teacher, "a teacher that is weaker than the student, itself"),
    }
    for name, (settings, words) in students.items():
        found[name] = domain.student(small, big, teacher, settings, words, name == "promptkd")
    found["same_teacher"] = domain.student(small, small, supervised, own, "the student's own CLIP with prompts teaches")
    found["weak_teacher"] = domain.student(small, weak, weak_teacher, own, "a teacher that is weaker than the student")
    found["plain_teacher"] = domain.student(small, big, None, own, "the teacher's CLIP as it is teaches")
    return found


def on_set(name: str, big: Any, small: Any, source: Stage, small_source: Stage) -> dict[str, Arm]:
    """A set of the paper: from base to novel classes, and carried over from ImageNet."""
    domain = Domain({f"data.{split}.init_args.name": name for split in ("train", "val", "test")})
    teacher, supervised = domain.teach(big), domain.teach(small, SMALL_TEACHER)
    light: Settings = {"model.weight": 200.0} if name in LIGHT else {}
    return {
        f"promptkd_{name}": domain.student(small, big, teacher, light, f"{name}: the method, all pictures"),
        f"zero_shot_{name}": domain.zero_shot(small, f"{name}: the student's CLIP as it is"),
        f"supervised_{name}": domain.prompted(small, supervised, f"{name}: PromptSRC"),
        f"teacher_{name}": domain.prompted(big, teacher, f"{name}: the teacher"),
        f"cross_{name}": domain.student(small, big, source, {"model.depth": 3}, f"{name}: {CROSS}"),
        f"cross_supervised_{name}": domain.prompted(small, small_source, f"{name}: {CROSS_SUPERVISED}"),
    }


LAYOUT = ", ".join(f"{folder}/" for folder in SETS.values() if folder != "imagenet")
RECIPE = Recipe(
    title="PromptKD: Unsupervised Prompt Distillation for Vision-Language Models",
    modality="image classification",
    arms=arms,
    downloads=(
        Download(
            name="ImageNet-1k with CLIP's names of the classes",
            path="$DATA_ROOT/imagenet",
            source="image-net.org (ILSVRC 2012); classnames.txt from CoOp's DATASETS.md (github.com/KaiyangZhou/CoOp)",
            gigabytes=155,
            licence="non-commercial research",
            layout="images/train/<synset>/*.JPEG, images/val/<synset>/*.JPEG and classnames.txt",
        ),
        Download(
            name="the other ten sets of the CLIP literature with CoOp's splits",
            path="$DATA_ROOT/caltech-101",
            source="huggingface.co/zhengli97/prompt_learning_dataset, or each from its owner by CoOp's DATASETS.md",
            gigabytes=56,
            licence="each set its own, mostly research only",
            layout=f"beside one another in DATA_ROOT: {LAYOUT} with their pictures and split_zhou_<set>.json",
        ),
    ),
    disk=5,
    stand_ins=f"{HOME}.harness.rehearsal:make",
    gpu="a100-80g",
    plan=f"{HOME}.harness.plan:workload",
    speed=f"{HOME}.harness.speed:speed",
)
