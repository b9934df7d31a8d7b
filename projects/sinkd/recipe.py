"""SinKD: which losses are compared, and the stages each of them consists of."""

from collections.abc import Mapping
from typing import Any

from common.downloads import GOEMOTIONS, MINILM
from common.recipe import Arm, Download, Output, Recipe, Scale, Small, Stage

GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2")

NO_SINKHORN = {"model.beta": 0.0}
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ce": ("labels only", NO_SINKHORN | {"model.divergence": "none", "model.alpha": 0.0}),
    "kl": ("labels and the teacher's soft labels: vanilla distillation", NO_SINKHORN),
    "kl_16": ("soft labels at the temperature that is best for them on validation texts", NO_SINKHORN),
    "rkl": ("reverse KL in the soft labels' place", NO_SINKHORN | {"model.divergence": "rkl"}),
    "js": ("Jensen-Shannon in the soft labels' place", NO_SINKHORN | {"model.divergence": "js"}),
    "tvd": ("total variation in the soft labels' place", NO_SINKHORN | {"model.divergence": "tvd"}),
    "samplewise": ("soft labels and L_SD of every sample by itself, a larger weight", {"model.group": 1}),
    "sinkhorn_alone": ("L_SD in the soft labels' place", {"model.divergence": "none"}),
    "sinkhorn": ("soft labels and L_SD of the batch, with a larger weight than the released code's", {}),
    "released_weight": ("soft labels and L_SD of the batch, 8e-4: the released code's weight", {"model.beta": 8e-4}),
}
"""Arms by name: what they are, and how their loss differs from what the students' configs hold."""

Settings = Mapping[str, Mapping[str, Any]]
OWN: Settings = {
    "kl_16": {"model.temperature": 16.0},
    "rkl": {"model.temperature": 8.0},
    "js": {"model.temperature": 16.0},
    "sinkhorn_alone": {"model.alpha": 0.9, "model.beta": 0.01},
}
"""Settings of a loss at mini and small scale, where student.yaml has something else; see README."""

TUNED: Settings = {
    "samplewise": {"model.beta": 3e-3},
    "sinkhorn": {"model.beta": 3e-3},
    "sinkhorn_alone": OWN["sinkhorn_alone"],
}
"""What paper scale takes over from mini's students, whose batches have 32 texts. The rest is the task's own."""
BATCHES_OF_32 = ("qqp", "sst2")
"""The other tasks have 16. L_SD is a sum over the batch beside means: half as many texts have twice the weight."""

TOY = {
    "toy_kl": ("kl", "toy study: KL between bins; soft labels at the logits"),
    "toy_rkl": ("rkl", "toy study: reverse KL between bins and at the logits"),
    "toy_js": ("js", "toy study: Jensen-Shannon between bins and at the logits"),
    "toy_transport": ("transport", "toy study: entropic transport between bins; L_SD at the logits"),
}
MINI = tuple(name for name in LOSSES if name != "tvd")
"""Losses at mini scale: no claim names total variation, which the released code holds."""
SMALL = tuple(name for name in MINI if name != "kl_16")
"""Losses at small scale, with mini's temperatures: none was chosen there."""
PAPER = tuple(name for name in LOSSES if name != "kl_16")
"""Losses at paper scale, where a task's temperature is that of every divergence."""
DECODER = ("kl", "sinkhorn")
"""Losses that are also compared with a decoder-only teacher and student, at mini scale."""


def arms(scale: Scale) -> dict[str, Arm]:
    """A world of sentences at mini scale, with an encoder and a decoder; comments and pretrained networks at small
    scale; GLUE's seven tasks otherwise."""
    if scale == "mini":
        return sentences() | sentences("_decoder", DECODER) | toy()
    if scale == "small":
        return comments()
    return glue(one_student=scale == "rehearsal") | toy()


def sentences(family: str = "", losses: tuple[str, ...] = MINI) -> dict[str, Arm]:
    """One teacher, and a student for each loss; `family` ends the names of arms and configs of other networks."""
    teacher = Stage(f"teacher{family}", "projects.sinkd.finetune", shared=True, base="teacher" if family else "base")
    tokenizer = {"data.tokenizer": teacher.output("tokenizer")}
    measured = {"model.teacher_weights.text": teacher.weights, **tokenizer}

    def test(**weights: Any) -> Stage:
        settings = {**measured, **{f"model.{name}.text": file for name, file in weights.items()}}
        base = "evaluate" if family else "base"
        return Stage(f"evaluate{family}", "projects.sinkd.evaluate", settings, "test", not weights, base)

    found = {f"teacher{family}": Arm([test()], "the teacher itself")}
    for name in losses:
        description, loss = LOSSES[name]
        settings = {"model.teacher_weights": teacher.weights, **tokenizer, **OWN.get(name, {}), **loss}
        base = "student" if family else "base"
        student = Stage(f"student{family}", "projects.sinkd.distill", settings, base=base)
        method = name == "sinkhorn" and not family
        found[f"{name}{family}"] = Arm([test(weights=student.weights)], description, method)
    return found


def comments() -> dict[str, Arm]:
    """One pretrained teacher, fine-tuned, and students that begin as some of its layers before that, one a loss."""
    teacher = Stage("teacher", "projects.sinkd.finetune", shared=True)
    begin = {"model.net.pretrained": Stage("cut", "projects.sinkd.cut", run="predict", shared=True).output("encoder")}
    measured = {"model.teacher_weights.text": teacher.weights}
    found = {
        "teacher": Arm([Stage("evaluate", "projects.sinkd.evaluate", measured, "test", True)], "the teacher itself")
    }
    for name in SMALL:
        description, loss = LOSSES[name]
        settings = {"model.teacher_weights": teacher.weights, **begin, **OWN.get(name, {}), **loss}
        student = Stage("student", "projects.sinkd.distill", settings)
        weights = {**measured, **begin, "model.weights.text": student.weights}
        evaluate = Stage("evaluate", "projects.sinkd.evaluate", weights, "test")
        found[name] = Arm([evaluate], description, method=name == "sinkhorn")
    return found


def glue(one_student: bool) -> dict[str, Arm]:
    """A teacher for each task, a student for each task and loss (or for each task alone), and the published ones."""
    teachers = {task: Stage(f"teacher_{task}", "projects.sinkd.finetune", shared=True, base="teacher") for task in GLUE}

    def student(task: str, loss: str) -> Stage:
        settings = {} if one_student else {**_taken_over(loss, task), **LOSSES[loss][1]}
        weights = {"model.teacher_weights": teachers[task].weights}
        return Stage(f"student_{task}", "projects.sinkd.distill", weights | settings, base="student")

    def test(teacher: dict[str, Output], student: dict[str, Output] | None = None) -> Stage:
        settings = _each("teacher_weights", teacher) | (_each("weights", student) if student else {})
        return Stage("evaluate", "projects.sinkd.evaluate", settings, "test", student is None)

    def published(**who: str) -> Stage:
        files = {
            setting: {task: f"$WEIGHTS_ROOT/sinkd/{name}/{task}/pytorch_model.bin" for task in GLUE}
            for setting, name in who.items()
        }
        settings = {key: file for setting, each in files.items() for key, file in _each(setting, each).items()}
        return Stage("evaluate_released", "projects.sinkd.evaluate", settings, "test", True, "evaluate")

    taught = {task: stage.weights for task, stage in teachers.items()}
    found = {
        "teacher": Arm([test(taught)], "the teacher itself"),
        "released_teacher": Arm([published(teacher_weights="teacher")], "the published teachers, measured as they are"),
        "released": Arm(
            [published(teacher_weights="teacher", weights="student")], "the published students, measured as they are"
        ),
    }
    first = {task: student(task, "") for task in GLUE} if one_student else {}
    for name in PAPER:
        description, _ = LOSSES[name]
        trained = first or {task: student(task, name) for task in GLUE}
        own = {task: stage.weights for task, stage in trained.items()}
        found[name] = Arm([test(taught, own)], description, method=name == "sinkhorn")
    return found


def toy() -> dict[str, Arm]:
    """The study of one dimension, the same at every scale."""
    return {
        name: Arm(
            [Stage("toy", "projects.sinkd.toy", {"model.divergence": divergence}, run="test", shared=True)], description
        )
        for name, (divergence, description) in TOY.items()
    }


def _taken_over(loss: str, task: str) -> dict[str, Any]:
    """Mini's tuned settings of a loss, its weight of L_SD for the task's batches."""
    settings = dict(TUNED.get(loss, {}))
    if settings and task not in BATCHES_OF_32:
        settings["model.beta"] *= 2
    return settings


def _each(setting: str, files: Mapping[str, Any]) -> dict[str, Any]:
    """A file for each task; MNLI's serves its second development set too."""
    return {f"model.{setting}.{task}": file for task, file in {**files, "mnli_mm": files["mnli"]}.items()}


RECIPE = Recipe(
    title="Sinkhorn Distance Minimization for Knowledge Distillation (SinKD)",
    modality="text classification",
    arms=arms,
    arms_with=lambda data: sentences(),
    data={"goemotions": GOEMOTIONS},
    small=Small(models=(MINILM,), data=GOEMOTIONS),
    downloads=(
        Download(
            name="GLUE: CoLA, MNLI, MRPC, QNLI, QQP, RTE, SST-2",
            path="$DATA_ROOT/glue",
            source="huggingface.co/datasets/nyu-mll/glue (hf download --repo-type dataset --local-dir), "
            "or gluebenchmark.com/tasks",
            gigabytes=0.2,
            licence="each task under its own terms",
            layout="{cola,mnli,...}/{train,validation}-*.parquet as on the hub, "
            "or {CoLA,MNLI,MRPC,QNLI,QQP,RTE,SST-2}/{train,dev}.tsv",
        ),
        Download(
            name="SinKD's published teachers and students",
            path="$WEIGHTS_ROOT/sinkd",
            source="two links in the README of github.com/2018cx/SinKD, to a file drive",
            gigabytes=5,
            licence="none stated",
            layout="{teacher,student}/{cola,mnli,mrpc,qnli,qqp,rte,sst2}/pytorch_model.bin, sorted so by you",
        ),
    ),
    disk=450,
    stand_ins="projects.sinkd.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.sinkd.harness.plan:workload",
    speed="projects.sinkd.harness.speed:speed",
)
