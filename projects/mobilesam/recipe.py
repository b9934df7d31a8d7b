"""MobileSAM: which arms are compared, and the stages each of them consists of."""

from common.downloads import COCO_PANOPTIC, MOBILE_SAM, SAM_VIT_H
from common.recipe import Arm, Download, Recipe, Scale, Stage

SA1B = "ai.meta.com/datasets/segment-anything-downloads (accept the licence there)"
SAM = Stage("sam", "common.foundations.sam", shared=True)
SAM_PHOTOS = Stage("sam_photos", "common.foundations.sam", {"model.start": SAM.weights}, shared=True)
BUDGETS = ("distill_middle", "distill_small")
"""Trainings that differ from `distill` in numbers alone."""


def arms(scale: Scale, sam: Stage = SAM) -> dict[str, Arm]:
    """At mini scale a small SAM, `sam`, is the teacher; else SAM ViT-H, beside released models and Table 2's ViT-B.

    On photographs the students that learn from masks are also measured with the method's work, and with its time.
    """
    mini = scale == "mini"
    teacher = {"model.teacher_weights": sam.weights} if mini else {}
    embed = Stage("embed", "projects.mobilesam.embed", teacher, run="predict", shared=True)
    stored = {
        "data.embeddings": embed.output("train_embeddings"),
        "data.val_embeddings": embed.output("val_embeddings"),
    }

    def train(name: str, **settings: object) -> Stage:
        return Stage(name, "projects.mobilesam.distill", {**teacher, **stored, **settings}, base="student")

    def finetune(name: str) -> Stage:
        return train(name, **{"model.student_weights": decoupled.weights})

    def test(student: Stage | str, name: str = "evaluate") -> Stage:
        """A student measured: one of a stage, or a released file, which has no seed."""
        released = isinstance(student, str)
        weights = student if isinstance(student, str) else student.weights
        settings = {**teacher, "model.student_weights": weights}
        base = "base" if name == "evaluate" else "evaluate"
        return Stage(name, "projects.mobilesam.evaluate", settings, run="test", shared=released, base=base)

    def measured(trained: Stage) -> list[Stage]:
        """Training and evaluation. Rehearsed are trainings that differ in more than numbers, and one student."""
        if scale == "rehearsal":
            return [test(decoupled)] if trained.name in BUDGETS else [trained, test(decoupled)]
        return [test(trained)]

    def bound(encoder: str) -> Stage:
        settings = {**teacher, "model.encoder": encoder}
        return Stage("evaluate", "projects.mobilesam.evaluate", settings, run="test", shared=True)

    decoupled = train("distill")
    found = {
        "teacher": Arm([bound("teacher")], "SAM itself: the upper bound"),
        "decoupled": Arm(
            [test(decoupled)],
            "encoder regresses the teacher's embedding; the teacher's decoder, untouched",
            method=True,
        ),
        "semi_coupled": Arm(
            measured(train("semi_coupled")), "encoder learns from masks through the teacher's frozen decoder"
        ),
        "coupled": Arm(measured(train("coupled")), "a new encoder and the teacher's decoder learn from masks together"),
        "decoupled_finetuned": Arm(
            measured(finetune("decoder_finetuning")), "decoupled, then a short finetuning of the decoder on masks"
        ),
        "jointly_finetuned": Arm(
            measured(finetune("joint_finetuning")), "decoupled, then a short finetuning of encoder and decoder on masks"
        ),
        "middle_budget": Arm(measured(train("distill_middle")), "decoupled, half of the epochs (Table 4)"),
        "small_budget": Arm(
            measured(train("distill_small")), "decoupled, a quarter of the epochs, half the batch (Table 4)"
        ),
        "untrained": Arm([bound("student")], "random encoder before the teacher's decoder: the lower bound"),
    }
    if sam is SAM_PHOTOS:
        for name in ("semi_coupled", "coupled"):
            for what in ("work", "time"):
                stage = f"{name}_equal_{what}"
                found[stage] = Arm(measured(train(stage)), f"{name}, for as many steps as take the method's {what}")
    if not mini:
        found |= {
            "coupled_scratch": Arm(
                measured(train("coupled_scratch")), "encoder and decoder both start anew and learn from masks"
            ),
            "released": Arm([test("$WEIGHTS_ROOT/mobile_sam.pt")], "the published MobileSAM, measured as it is"),
            "sam_vit_b": Arm(
                [test("$WEIGHTS_ROOT/sam_vit_b_01ec64.pth", "evaluate_vit_b")],
                "the published SAM ViT-B, measured as it is: the paper's coupled model (Table 2)",
            ),
            "decoupled_vit_b": Arm(
                [test(train("distill_vit_b"), "evaluate_vit_b")],
                "a ViT-B student regresses the teacher's embedding on 0.1 % of SA-1B (Table 2)",
            ),
        }
    return found


RECIPE = Recipe(
    title="Faster Segment Anything: Towards Lightweight SAM for Mobile Applications (MobileSAM)",
    modality="image segmentation",
    arms=arms,
    arms_with=lambda data: arms("mini", SAM_PHOTOS),
    data={"coco": COCO_PANOPTIC},
    downloads=(
        SAM_VIT_H,
        Download(
            name="SAM ViT-B weights",
            path="$WEIGHTS_ROOT/sam_vit_b_01ec64.pth",
            source="the model checkpoints section of github.com/facebookresearch/segment-anything",
            gigabytes=0.37,
            licence="Apache-2.0",
        ),
        MOBILE_SAM,
        Download(
            name="SA-1B for training: ten tars, 1 % of it, about 110,000 images",
            path="$DATA_ROOT/sa1b/train",
            source=SA1B,
            gigabytes=110,
            licence="SA-1B research licence",
            layout="sa_000000.tar ... sa_000009.tar, read as they are; unpacked sa_*.jpg and sa_*.json work too",
        ),
        Download(
            name="SA-1B for validation and evaluation: one more tar, of which 264 images are used",
            path="$DATA_ROOT/sa1b/test",
            source=SA1B,
            gigabytes=11,
            licence="SA-1B research licence",
            layout="sa_000010.tar, read as it is; unpacked sa_*.jpg and sa_*.json work too",
        ),
    ),
    disk=250,
    stand_ins="projects.mobilesam.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.mobilesam.harness.plan:workload",
    speed="projects.mobilesam.harness.speed:speed",
)
