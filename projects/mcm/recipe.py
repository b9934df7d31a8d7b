"""MCM: which arms are compared, and the stages each of them consists of."""

from dataclasses import replace

from common.downloads import INCEPTION
from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

Changes = dict[str, tuple[dict[str, object], str]]

# what an arm changes in the method's config: the components one by one (Table 4), then the alternatives
LCM = {"model.motion": "raw", "model.simulated": 0.0, "model.adversary": None}
ARMS: Changes = {
    "lcm": (LCM, "latent consistency distillation: raw latents, real videos"),
    "lcm_adversarial": (
        {"model.motion": "raw", "model.simulated": 0.0},
        "the same with the frame discriminator",
    ),
    "disentangled": (
        {"model.simulated": 0.0},
        "the same with the learned motion representation in the raw latents' place",
    ),
    "mcm": ({}, "the whole method: half of the trajectories start from the student's own videos"),
    "mcm_diff": ({"model.motion": "diff"}, "the whole method on differences of frames"),
    "only_simulated": ({"model.simulated": 1.0}, "the whole method, all trajectories from the student's own videos"),
    "mcm_videos": ({"data.images": None}, "the whole method without an image set: frames of the same videos"),
}
PAPER_ARMS: Changes = {
    "mcm_raw": ({"model.motion": "raw"}, "the whole method on raw latents"),
    "mcm_gcor": ({"model.motion": "gcor"}, "the whole method on the correlation of neighbouring frames"),
    "mcm_freql": ({"model.motion": "freql"}, "the whole method on low frequencies"),
    "mcm_freqh": ({"model.motion": "freqh"}, "the whole method on high frequencies"),
    "mcm_lcor": ({"model.motion": "lcor"}, "the whole method on local correlation"),
    "mcm_hlearn": ({"model.motion": "hlearn"}, "the whole method with a heavier motion head"),
}
ANIMATEDIFF = ("lcm", "mcm", "mcm_videos")
RELEASED = {"released": "laion", "released_videos": "webvid"}
"""Students that the authors released, evaluated as they are: with an image set, and without."""
DISTILLATION, EVALUATION = "distillation", "evaluation"  # configs that both teachers have in common
SOLVERS = {"ddim": "the teacher at the same numbers of steps, DDIM", "dpm": "the teacher likewise, DPM++"}


def arms(scale: Scale) -> dict[str, Arm]:
    """At mini scale teacher and encoders are trained on the world; otherwise they are published.

    A rehearsal runs every config, but arms that differ in a switch alone share their stages there.
    """
    if scale == "mini":
        return mini_arms()
    chosen = ARMS | PAPER_ARMS
    many: dict[str, object] = {"model.steps": [50]}
    if scale == "paper":
        second = family("_animatediff", {name: chosen[name] for name in ANIMATEDIFF}, {}, {}, many)
        second |= released("_animatediff", "animatediff")
        found = family("", chosen, {}, {}, many) | released("", "modelscopet2v")
        return found | {f"animatediff_{name}": arm for name, arm in second.items()}
    found = family("", {name: ({}, words) for name, (_, words) in chosen.items()}, {}, {}, {})
    second = family("_animatediff", {"mcm": chosen["mcm"]}, {}, {}, {})
    with_images = {"released": released("", "modelscopet2v")["released"]}
    return found | with_images | {"dpm": found["ddim"], "animatediff_mcm": second["mcm"]}


def mini_arms() -> dict[str, Arm]:
    teacher = Stage("video_teacher", "projects.mcm.teacher", shared=True)
    encoder = Stage("frame_encoder", "projects.mcm.features", shared=True, base="frames")
    judge = Stage("frame_judge", "projects.mcm.features", shared=True, base="frames")
    source = {"model.teacher.source": teacher.output("model")}
    return family(
        "",
        ARMS,
        {**source, "model.adversary.encoder.weights": encoder.weights},
        {**source, "model.measures.judge.weights": judge.weights},
        {"model.steps": [20]},
        ("base", "base"),
    )


def released(suffix: str, teacher: str) -> dict[str, Arm]:
    """The students of a teacher that were released with the paper; nothing is trained."""
    found = {}
    for name, images in RELEASED.items():
        weights = {"model.weights": f"yhzhai/mcm/{teacher}-{images}"}
        stage = Stage(f"evaluate{suffix}", "projects.mcm.evaluate", weights, "test", shared=True, base=EVALUATION)
        found[name] = Arm([stage], f"the authors' own student: {teacher}-{images}")
    return found


def family(
    suffix: str,
    chosen: Changes,
    trained: dict[str, Output],
    evaluated: dict[str, Output],
    many_steps: dict[str, object],
    bases: tuple[str, str] = (DISTILLATION, EVALUATION),
) -> dict[str, Arm]:
    """The arms with one teacher: its own videos, then the students.

    Args:
        suffix: of the names of the configs.
        chosen: what each student's arm changes, and what it is.
        trained: settings of every distillation.
        evaluated: settings of every evaluation.
        many_steps: the numbers of steps that show what the teacher can do.
        bases: the configs under those of the distillations and the evaluations.
    """
    distillation, evaluation = bases

    def evaluate(settings: dict[str, object], shared: bool = False) -> Stage:
        given = {**evaluated, **settings}
        return Stage(f"evaluate{suffix}", "projects.mcm.evaluate", given, "test", shared, base=evaluation)

    def distill(settings: dict[str, object]) -> Stage:
        given: dict[str, object] = {**trained, **settings}
        if "model.adversary" in settings:  # there is none: nothing to set in it
            given = {key: value for key, value in given.items() if not key.startswith("model.adversary.")}
        return Stage(f"distill{suffix}", "projects.mcm.distill", given, base=distillation)

    def own(sampler: str, settings: dict[str, object], words: str) -> Arm:
        return Arm([evaluate({"model.sampler": sampler, **settings}, shared=True)], words)

    found = {"teacher": own("ddim", many_steps, "the teacher in many steps, DDIM: what the students aim at")}
    found |= {name: own(name, {}, words) for name, words in SOLVERS.items()}
    for name, (settings, words) in chosen.items():
        student = evaluate({"model.weights": distill(settings).weights})
        found[name] = Arm([student], words, method=name == "mcm")
    return found


WEBVID = "no longer distributed by its authors; a copy that you have the right to use"
RECIPE = Recipe(
    title="Motion Consistency Model: Accelerating Video Diffusion with Disentangled Motion-Appearance Distillation",
    modality="text to video",
    arms=arms,
    downloads=(
        Download(
            name="WebVid for training: 2,467,378 captioned clips",
            path="$DATA_ROOT/webvid/train",
            source=WEBVID,
            gigabytes=None,
            licence="WebVid's terms, non-commercial research",
            layout="*.tar, read as they are: <key>.mp4 and <key>.json with a caption",
        ),
        Download(
            name="WebVid for validation",
            path="$DATA_ROOT/webvid/val",
            source=WEBVID,
            gigabytes=None,
            licence="WebVid's terms, non-commercial research",
            layout="*.tar, as for training",
        ),
        Download(
            name="LAION-aesthetic, or another set of captioned images with the appearance that is wanted",
            path="$DATA_ROOT/laion_aesthetic",
            source="huggingface.co/datasets/laion: an aesthetic subset's metadata, fetched with img2dataset",
            gigabytes=None,
            licence="metadata CC BY 4.0, images under their owners' terms",
            layout="*.tar, read as they are: <key>.jpg and <key>.txt; the first tar is for evaluation",
        ),
        replace(INCEPTION, name="Inception for the distance of frames to images"),
    ),
    disk=30,
    stand_ins="projects.mcm.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.mcm.harness.plan:workload",
)
