"""LoRA distillation of guidance: which arms are compared, and the stages each of them consists of."""

from collections.abc import Mapping
from dataclasses import replace

from common.downloads import INCEPTION
from common.recipe import Arm, Download, Recipe, Scale, Stage

Settings = Mapping[str, object]
HOME = "projects.lora_distill"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
LINEAR = [*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj", "linear_1", "linear_2"]


def lora(rank: int = 4, targets: list[str] | None = None) -> dict[str, object]:
    return {"rank": rank, "gaussian": True, "targets": targets}


STUDENTS: dict[str, tuple[Settings, str]] = {
    "lora_1": ({"model.lora": lora(1)}, "updates of rank 1 of every attention"),
    "lora_4": ({}, "updates of rank 4 of every attention, as in the paper"),
    "lora_16": ({"model.lora": lora(16)}, "updates of rank 16 of every attention"),
    "lora_4_linear": ({"model.lora": lora(4, LINEAR)}, "updates of rank 4 of every linear layer"),
    "lora_4_ramp": ({"model.schedule": "linear"}, "the method, but guidance grows linearly from 1 during training"),
    "full": ({"model.lora": None}, "conventional distillation: a copy of the whole U-Net is trained"),
}
"""What an arm changes in the method's configs, and what it is."""
COSTS: dict[str, tuple[Settings, str]] = {
    "sd21_lora_4": ({}, "Stable Diffusion 2.1, counted: the method"),
    "sd21_full": ({"model.lora": None}, "Stable Diffusion 2.1, counted: conventional distillation"),
    "sd21_finetuned": (
        {"model.lora": None, "model.training": "finetuning"},
        "Stable Diffusion 2.1, counted: ordinary finetuning, before any distillation",
    ),
}
"""Costs at the real size, which need no training and no weights."""
FULL_RATE = {"mini": 3e-4, "paper": 5e-6}
"""Learning rate where all weights are trained; the LoRA's is in the config."""
REAL = {
    "class_path": "common.data.worlds.glyph_scenes.GlyphScenes",
    "init_args": {"split": "train", "size": 1536, "places_named": False},
}
REAL_ARM = "the method, but it learns from the world's own pictures of the same captions"


def arms(scale: Scale) -> dict[str, Arm]:
    """At mini scale the teacher is trained on the world and draws what students learn from. Else it is Stable Diffusion
    and they learn from DiffusionDB. What they are judged on it draws at every scale.

    A rehearsal runs every config, but arms that differ in a number or a schedule share their stages there.
    """
    mini = scale == "mini"
    teacher: dict[str, object] = {}
    if mini:
        everywhere = {"model.attention": "all"}  # nearly as in Stable Diffusion: there is where the updates stand
        foundation = Stage("glyph_text_to_image_loose", "common.foundations.text_to_image", everywhere, shared=True)
        teacher = {"model.text_to_image": foundation.output("model")}
    drawn = Stage("pictures", f"{HOME}.pictures", teacher, "predict", shared=True, base="teacher")
    roots = {f"data.{split}.init_args.root": drawn.output(split) for split in ("train", "val", "test")}
    shown = {key: root for key, root in roots.items() if "train" not in key}
    training = {key: root for key, root in roots.items() if "test" not in key and (mini or "train" not in key)}

    def evaluate(settings: Settings) -> Stage:
        return Stage("evaluate", f"{HOME}.evaluate", {**teacher, **shown, **settings}, "test", base="teacher")

    def student(settings: Settings, data: Settings) -> Stage:
        rate = {"model.lr": FULL_RATE["mini" if mini else "paper"]} if settings.get("model.lora", True) is None else {}
        stage = Stage("distill", f"{HOME}.distill", {**teacher, **data, **rate, **settings}, base="teacher")
        asked = {key: value for key, value in settings.items() if key == "model.lora"}
        return evaluate({**asked, "model.weights": stage.weights})

    found = {
        "guided": Arm([evaluate({"model.drawer": "guided"})], "the teacher with guidance, two evaluations a step"),
        "unguided": Arm([evaluate({"model.drawer": "unguided"})], "the teacher without guidance, one evaluation"),
    }
    for name, (settings, words) in STUDENTS.items():
        changed = {} if scale == "rehearsal" and name in ("lora_1", "lora_16", "lora_4_ramp") else settings
        found[name] = Arm([student(changed, training)], words, method=name == "lora_4")
    if mini:
        real = {key: value for key, value in training.items() if not key.startswith("data.train")}
        found["lora_4_real"] = Arm([student({}, {**real, "data.train": REAL})], REAL_ARM)
        for name, (settings, words) in COSTS.items():
            found[name] = Arm([Stage("memory", f"{HOME}.memory", settings, "test", shared=True)], words)
    return found


RECIPE = Recipe(
    title="LoRA-Enhanced Distillation on Guided Diffusion Models",
    modality="text to image",
    arms=arms,
    downloads=(
        Download(
            name="DiffusionDB: 56 parts of 1,000 pictures that Stable Diffusion has drawn, with their prompts",
            path="$DATA_ROOT/diffusiondb",
            source="huggingface.co/datasets/poloclub/diffusiondb, images/part-000001.zip to part-000056.zip",
            gigabytes=36,
            licence="CC0 1.0",
            layout="part-000001.zip, part-000002.zip, ... as downloaded, or unpacked folders of those names",
        ),
        replace(INCEPTION, name="Inception for the distance to the guided teacher's pictures"),
    ),
    disk=60,
    stand_ins=f"{HOME}.harness.rehearsal:make",
    gpu="a100-40g",
    plan=f"{HOME}.harness.plan:workload",
    speed=f"{HOME}.harness.speed:speed",
)
