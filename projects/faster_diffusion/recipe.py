"""Faster Diffusion: which samplers are compared. Nothing is trained but the mini scale's diffusion model."""

from collections.abc import Mapping

from common.downloads import INCEPTION
from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

T2I = Stage("glyph_text_to_image_loose", "common.foundations.text_to_image", shared=True)
DRAWING = "drawing"  # the config that all stages which draw have in common
INJECTED = 0.003
REHEARSED = ("faster", "decoder", "ddim_keys", "dpmpp_20_faster")
EQUAL_COST = 36
"""Steps of the full sampler that cost Stable Diffusion's U-Net what 50 with the paper's 9 key steps do (73.3 %)."""
ARMS: dict[str, tuple[Mapping[str, object], str]] = {
    "faster": (
        {"model.reuse.keys": "paper", "model.reuse.alpha": INJECTED},
        "encoder propagation with the paper's 9 key steps, decoders in parallel, prior noise injection",
    ),
    "encoder": ({"model.reuse.keys": "paper"}, "the same without injection"),
    "uniform_25": ({"model.reuse.keys": 2}, "the same with every second step a key step"),
    "uniform_9": ({"model.reuse.keys": "uniform-9"}, "the same with 9 uniform key steps"),
    "uniform_5": ({"model.reuse.keys": 12}, "the same with every twelfth step a key step"),
    "nonuniform_1": ({"model.reuse.keys": "nonuniform-1"}, "the same with the 9 key steps of Table 5's set I"),
    "nonuniform_2": ({"model.reuse.keys": "nonuniform-2"}, "the same with the 9 key steps of set II"),
    "nonuniform_3": ({"model.reuse.keys": "nonuniform-3"}, "the same with the 9 key steps of set III"),
    "decoder": (
        {"model.reuse.keys": "paper", "model.reuse.mode": "decoder", "model.reuse.parallel": False},
        "decoder propagation: the encoder runs at every step, the up blocks but the last at key steps",
    ),
    "both": (
        {"model.reuse.keys": "paper", "model.reuse.mode": "both", "model.reuse.parallel": False},
        "encoder and decoder propagation",
    ),
    "dropping": (
        {"model.reuse.keys": "paper", "model.reuse.mode": "drop", "model.reuse.parallel": False},
        "zeros in the place of what `both` reuses",
    ),
    "ddim_25": ({"model.steps": 25}, "the full sampler in 25 steps"),
    "ddim_9": ({"model.steps": 9}, "the full sampler in 9 steps"),
    "ddim_9_noise": (
        {"model.steps": 9, "model.reuse.keys": "all", "model.reuse.alpha": INJECTED},
        "the full sampler in 9 steps, with injection",
    ),
    "ddim_keys": ({"model.only": "paper"}, "the full sampler at the times of the 9 key steps alone"),
    "ddim_equal_cost": ({"model.steps": EQUAL_COST}, f"the full sampler in {EQUAL_COST} steps, at the method's cost"),
    "dpmpp_20": ({"model.solver": "dpm++", "model.steps": 20}, "DPM-Solver++ in 20 steps"),
    "dpmpp_20_faster": (
        {"model.solver": "dpm++", "model.steps": 20, "model.reuse.keys": "paper", "model.reuse.alpha": INJECTED},
        "the same with encoder propagation and injection, the paper's 7 key steps",
    ),
}
PAPER_ARMS: dict[str, tuple[Mapping[str, object], str]] = {
    "dpm_20": ({"model.solver": "dpm", "model.steps": 20}, "DPM-Solver in 20 steps"),
    "dpm_20_faster": (
        {"model.solver": "dpm", "model.steps": 20, "model.reuse.keys": "paper", "model.reuse.alpha": INJECTED},
        "the same with encoder propagation and injection",
    ),
    "ddim_25_noise": (
        {"model.steps": 25, "model.reuse.keys": "all", "model.reuse.alpha": INJECTED},
        "the full sampler in 25 steps, with injection",
    ),
}


def arms(scale: Scale) -> dict[str, Arm]:
    """At mini scale a small diffusion model is trained on the world; otherwise it is the hub's."""
    mini = scale == "mini"
    source: dict[str, str | Output] = {"model.text_to_image": T2I.output("model")} if mini else {}

    def stage(name: str, script: str, settings: Mapping[str, object]) -> Stage:
        return Stage(name, f"projects.faster_diffusion.{script}", {**source, **settings}, "test", base=DRAWING)

    full = stage("full" if mini else "sample", "sample", {})
    chosen = ARMS if mini else ARMS | PAPER_ARMS
    if scale == "rehearsal":  # arms that differ in a number or a name alone share their stages
        chosen = {name: (settings if name in REHEARSED else {}, words) for name, (settings, words) in chosen.items()}
    compared = {"model.reference": full.output("drawn.safetensors")} if mini else {}
    found = {"full": Arm([full], "the full sampler: 50 steps of DDIM")}
    for name, (settings, words) in chosen.items():
        found[name] = Arm([stage("sample", "sample", {**compared, **settings})], words, method=name == "faster")
    if mini:
        found["unguided"] = Arm([stage("full", "sample", {"model.guidance": 1.0})], "the full sampler without guidance")
    found["changes"] = Arm([stage("changes", "changes", {})], "features of the full sampler, from step to step")
    cost = Stage("cost", "projects.faster_diffusion.cost", {}, "test", shared=True)
    return found | {"cost": Arm([cost], "the real networks, counted without values")}


RECIPE = Recipe(
    title="Faster Diffusion: Rethinking the Role of the Encoder for Diffusion Model Inference",
    modality="text to image",
    arms=arms,
    downloads=(
        Download(
            name="COCO, validation pictures of 2017",
            path="$DATA_ROOT/coco",
            source="cocodataset.org: 2017 Val images, 2017 Train/Val annotations",
            gigabytes=1,
            licence="annotations CC BY 4.0, images under their Flickr licences",
            layout="val2017/*.jpg, annotations/captions_val2017.json",
        ),
        INCEPTION,
    ),
    disk=10,
    stand_ins="projects.faster_diffusion.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.faster_diffusion.harness.plan:workload",
    speed="projects.faster_diffusion.harness.speed:speed",
)
