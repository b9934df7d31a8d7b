"""Quantized distillation: which trainings and quantizations are compared, and the stages each of them consists of."""

from typing import Any

from common.recipe import Arm, Download, Recipe, Scale, Stage

BITS = (2, 4)
DROPOUT = {"model.net.dropout": {1: 0.2, 3: 0.3, 4: 0.4}}
"""Of the paper's students that learn from labels alone; distilled ones have none."""
SMALLER = {
    "_medium": {"model.net.filters": [50, 25, 25, 10], "model.net.units": [400]},
    "_small": {"model.net.filters": [25, 10, 10, 5], "model.net.units": [300]},
}
"""The paper's second and third student, beside that of configs/paper/student.yaml."""
PARTS = {"train": {}, "val": {"size": 1000}, "test": {"size": 4000}}
"""Pictures of the world: 24,000 to train on, and more to measure on than other recipes have."""
SIDE = 16


def arms(scale: Scale) -> dict[str, Arm]:
    """The world of shapes at mini scale; else CIFAR-10 with the paper's networks, of which a rehearsal runs some."""
    if scale == "mini":
        files = world()
        teacher = trained_teacher(files)
        return compared(files, teacher, "_2", "_4") | noise()
    if scale == "rehearsal":
        kept = {"teacher", "labels", "pm_2", "qd_2", "qd_4", "qd_8", "dq_2", "dq_4", "deeper_qd_2", "noise"}
        return {name: arm for name, arm in arms("paper").items() if name in kept}
    teacher = trained_teacher({})
    found = compared({}, teacher, "_2", "_4", "_8", dropout=DROPOUT) | own(teacher) | noise()
    for name, sizes in SMALLER.items():
        smaller = compared({}, teacher, "_2", "_4", student=sizes, dropout=DROPOUT)
        found |= {f"{arm}{name}": stages for arm, stages in smaller.items() if arm != "teacher"}
    return found | deeper(teacher)


def world() -> dict[str, Any]:
    """Files of the world's pictures, drawn once in the networks' size."""
    wanted: dict[str, Any] = {"data.image_size": SIDE}
    for part, settings in PARTS.items():
        values = settings | {"resolution": SIDE}
        wanted |= {f"data.{part}.init_args.{name}": value for name, value in values.items()}
    pictures = Stage("shape_pictures", "common.foundations.shape_pictures", wanted, "predict", shared=True)
    return {f"data.{part}.init_args.files": pictures.output(f"{part}.parquet") for part in PARTS}


def trained_teacher(files: dict[str, Any]) -> Stage:
    return Stage("teacher", "projects.quantized_distillation.train", without_test(files), shared=True)


def without_test(files: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in files.items() if not key.startswith("data.test")}


def compared(
    files: dict[str, Any],
    teacher: Stage,
    *bits: str,
    student: dict[str, Any] | None = None,
    dropout: dict[str, Any] | None = None,
) -> dict[str, Arm]:
    """The teacher, the student with whole weights, and for each number of bits every way to quantize it.

    Args:
        files: where the pictures are, if not where the configs say.
        student: sizes, if not those of the configs.
        dropout: of students that learn from labels alone.
    """
    student, labels = student or {}, dropout or {}
    taught = {"model.teacher_weights": teacher.weights}

    def train(name: str, **settings: Any) -> Stage:
        given = without_test(files) | student | settings
        return Stage(name, "projects.quantized_distillation.train", given, base="student")

    def learn(name: str) -> Stage:
        given = without_test(files) | student | {"model.weights": distilled.weights}
        return Stage(name, "projects.quantized_distillation.points", given, base="student_points")

    def measure(stage: Stage, name: str = "whole", **settings: Any) -> list[Stage]:
        return [evaluation(stage, name, files | student | settings)]

    distilled = train("whole_weights", **taught)
    found = {
        "teacher": Arm([evaluation(teacher, "teacher", files)], "the teacher, whole: the upper bound"),
        "labels": Arm(measure(train("whole_weights", **labels)), "the student with whole weights, from labels alone"),
        "distilled": Arm(measure(distilled), "the student with whole weights, distilled"),
    }
    for b in bits:
        words, name = f"{b[1:]} bits", f"quantized{b}"
        found |= {
            f"pm{b}": Arm(
                measure(distilled, name, **{"model.quantizer.bucket": None}),
                f"{words}: the distilled student quantized afterwards, a tensor as one bucket",
            ),
            f"pm_bucket{b}": Arm(measure(distilled, name), f"{words}: quantized afterwards, in buckets"),
            f"quantized_labels{b}": Arm(
                measure(train(name, **labels), name), f"{words}: trained with quantized weights, from labels alone"
            ),
            f"qd{b}": Arm(measure(train(name, **taught), name), f"{words}: quantized distillation", method=b == "_2"),
        }
        if b != "_8":
            found[f"dq{b}"] = Arm(
                measure(learn(f"points{b}"), name, **{"model.points": True}),
                f"{words} on average: differentiable quantization, the distilled student's weights on learned points",
            )
    return found


def evaluation(stage: Stage, name: str, settings: dict[str, Any]) -> Stage:
    """A stage's weights measured, as `name`'s config of evaluation has it."""
    given = {key: value for key, value in settings.items() if not key.startswith("data.train")}
    given |= {"model.weights": stage.weights}
    module = "projects.quantized_distillation.evaluate"
    return Stage(f"evaluate_{name}", module, given, "test", stage.shared, base="evaluate")


def own(teacher: Stage) -> dict[str, Arm]:
    """Ours: the soft term as most have it."""
    taught = {"model.teacher_weights": teacher.weights, "model.divided": "batch"}
    stage = Stage("quantized_2", "projects.quantized_distillation.train", taught, base="student")
    words = "2 bits: quantized distillation, the soft term divided by the batch alone"
    return {"qd_2_batch": Arm([evaluation(stage, "quantized_2", {})], words)}


def deeper(teacher: Stage) -> dict[str, Arm]:
    """The student that is deeper than its teacher, its first and last layer whole."""
    taught = {"model.teacher_weights": teacher.weights}

    def train(**settings: Any) -> Stage:
        return Stage("deeper", "projects.quantized_distillation.train", settings, base="student")

    whole: dict[str, Any] = {"model.quantizer": None}
    words = "a student deeper than the teacher, whole, from labels alone"
    found = {"deeper_labels": Arm([evaluation(train(**whole), "deeper", whole)], words)}
    for bits in BITS:
        quantized = {"model.quantizer.bits": bits}
        stages = [evaluation(train(**taught, **quantized), "deeper", quantized)]
        found[f"deeper_qd_{bits}"] = Arm(
            stages, f"a student deeper than the teacher: quantized distillation, {bits} bits"
        )
    return found


def noise() -> dict[str, Arm]:
    stage = Stage("noise", "projects.quantized_distillation.noise", run="test", base="noise")
    return {"noise": Arm([stage], "stochastic rounding of single neurons: no network")}


CIFAR = Download(
    name="CIFAR-10, the hub's parquet files",
    path="$DATA_ROOT/cifar10",
    source="huggingface.co/datasets/uoft-cs/cifar10 (hf download --repo-type dataset --local-dir)",
    gigabytes=0.15,
    licence="none stated; Krizhevsky 2009",
    layout="plain_text/{train,test}-00000-of-00001.parquet: columns img and label",
)
RECIPE = Recipe(
    title="Model compression via distillation and quantization",
    modality="model compression",
    arms=arms,
    arms_with=lambda data: compared({}, trained_teacher({}), "_2", "_4"),
    data={"cifar10": CIFAR, "cifar10_full": CIFAR},
    downloads=(CIFAR,),
    disk=2,
    stand_ins="projects.quantized_distillation.harness.rehearsal:make",
    gpu="a100-80g",
    paper_on_cpu=False,
    plan="projects.quantized_distillation.harness.plan:workload",
    speed="projects.quantized_distillation.harness.speed:speed",
)
