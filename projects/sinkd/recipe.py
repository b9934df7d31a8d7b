"""SinKD: which losses are compared, and the stages each of them consists of."""

from typing import Any

from common.recipe import Arm, Download, Output, Recipe, Scale, Stage

GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2")
NO_SINKHORN = {"model.beta": 0.0}

LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ce": ("labels only", NO_SINKHORN | {"model.divergence": "none", "model.alpha": 0.0}),
    "kl": ("labels and the teacher's soft labels: vanilla distillation", NO_SINKHORN),
    "rkl": ("reverse KL in the soft labels' place", NO_SINKHORN | {"model.divergence": "rkl"}),
    "js": ("Jensen-Shannon in the soft labels' place", NO_SINKHORN | {"model.divergence": "js"}),
    "tvd": ("total variation in the soft labels' place", NO_SINKHORN | {"model.divergence": "tvd"}),
    "samplewise": ("soft labels and L_SD of every sample by itself", {"model.group": 1}),
    "sinkhorn_alone": ("labels and L_SD, without soft labels", {"model.divergence": "none", "model.alpha": 0.0}),
    "sinkhorn": ("soft labels and L_SD of the batch", {}),
}
"""Arms by name: what they are, and how their loss differs from the method's, which the students' configs hold."""

MINI_LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "released_weight": (
        "the method with the paper's weight and the released code's factor: 8e-4",
        {"model.beta": 8e-4},
    ),
}
"""A further arm at mini scale, where the method's weight is a tuned one."""

TUNED: dict[str, dict[str, Any]] = {
    "rkl": {"model.alpha": 0.9, "model.temperature": 2.0},
    "js": {"model.alpha": 0.9},
    "tvd": {"model.alpha": 0.9, "model.temperature": 2.0},
    "samplewise": {"model.beta": 0.03},
    "sinkhorn_alone": {"model.beta": 0.03},
}
"""What the validation set chose for a baseline at mini scale, where it is not the method's value in student.yaml."""

TOY = {
    "toy_kl": ("kl", "toy study: KL between bins; soft labels at the logits"),
    "toy_rkl": ("rkl", "toy study: reverse KL between bins and at the logits"),
    "toy_js": ("js", "toy study: Jensen-Shannon between bins and at the logits"),
    "toy_transport": ("transport", "toy study: entropic transport between bins; L_SD at the logits"),
}


def arms(scale: Scale) -> dict[str, Arm]:
    """One teacher and one student for each task: a single task at mini scale, GLUE's seven otherwise."""
    tasks = ("text",) if scale == "mini" else GLUE
    teachers = {task: Stage(_name("teacher", task), "projects.sinkd.finetune", shared=True) for task in tasks}
    tokenizer: dict[str, Any] = {}
    if scale == "mini":  # otherwise BERT's own
        tokenizer = {"data.tokenizer": teachers["text"].output("tokenizer")}
    measured = {**_weights("model.teacher_weights", teachers), **tokenizer}

    def student(task: str, loss: dict[str, Any]) -> Stage:
        settings = {"model.teacher_weights": teachers[task].weights, **tokenizer, **loss}
        return Stage(_name("student", task), "projects.sinkd.distill", settings)

    own = Stage("evaluate", "projects.sinkd.evaluate", measured, run="test", shared=True)
    found = {"teacher": Arm([own], "the teacher itself")}
    method = {task: student(task, {}) for task in tasks}
    for name, (description, loss) in (LOSSES | MINI_LOSSES if scale == "mini" else LOSSES).items():
        trained = method
        if name != "sinkhorn" and scale != "rehearsal":  # a rehearsal runs every config once, whatever the loss
            settings = {**loss, **(TUNED.get(name, {}) if scale == "mini" else {})}
            trained = {task: student(task, settings) for task in tasks}
        evaluate = {**measured, **_weights("model.weights", trained)}
        stages = [Stage("evaluate", "projects.sinkd.evaluate", evaluate, run="test")]
        found[name] = Arm(stages, description, method=name == "sinkhorn")
    for name, (divergence, description) in TOY.items():
        toy = Stage("toy", "projects.sinkd.toy", {"model.divergence": divergence}, run="test", shared=True)
        found[name] = Arm([toy], description)
    return found


def _name(kind: str, task: str) -> str:
    """A stage's name and that of its config."""
    return kind if task == "text" else f"{kind}_{task}"


def _weights(setting: str, stages: dict[str, Stage]) -> dict[str, Output]:
    """Each task's weights; MNLI's serve its second development set too."""
    found = {f"{setting}.{task}": stage.weights for task, stage in stages.items()}
    return found | ({f"{setting}.mnli_mm": stages["mnli"].weights} if "mnli" in stages else {})


RECIPE = Recipe(
    title="Sinkhorn Distance Minimization for Knowledge Distillation (SinKD)",
    modality="text classification",
    arms=arms,
    data={
        "goemotions": Download(
            name="GoEmotions: 58,000 Reddit comments with 27 emotions or none",
            path="$DATA_ROOT",
            source="github.com/google-research/google-research, folder goemotions/data",
            gigabytes=0.005,
            licence="CC BY 4.0",
            layout="train.tsv, dev.tsv, test.tsv (comment, class indices, comment id) and labels.txt or emotions.txt",
        )
    },
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
    ),
    disk=450,
    stand_ins="projects.sinkd.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.sinkd.harness.plan:workload",
)
