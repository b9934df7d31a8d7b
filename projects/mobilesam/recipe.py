"""MobileSAM: which arms are compared, and the stages each of them consists of."""

from common.recipe import Arm, Download, Recipe, Scale, Stage

SA1B = "ai.meta.com/datasets/segment-anything-downloads (accept the licence there)"
SAM = Stage("sam", "common.foundations.sam", shared=True)
SAM_PHOTOS = Stage("sam_photos", "common.foundations.sam", {"model.start": SAM.weights}, shared=True)


def arms(scale: Scale, sam: Stage = SAM) -> dict[str, Arm]:
    """At mini scale a small SAM, `sam`, is the teacher and annotates the data at hand; else SAM ViT-H and SA-1B."""
    teacher, train = {}, {}
    if scale == "mini":
        teacher = {"model.teacher_weights": sam.weights}
        annotate = Stage("annotate", "projects.mobilesam.annotate", teacher, run="predict", shared=True)
        train = {"data.train.init_args.root": annotate.output("train")}
        val = {"data.val.init_args.root": annotate.output("val")}
    else:
        val = {}
    embed = Stage("embed", "projects.mobilesam.embed", {**teacher, **train}, run="predict", shared=True)
    stored = {"data.embeddings": embed.output("embeddings")}

    def distill(coupling: str, **settings: object) -> Stage:
        name = "distill" if coupling == "decoupled" else coupling
        return Stage(
            name, "projects.mobilesam.distill", {**teacher, **train, **val, "model.coupling": coupling, **settings}
        )

    def evaluate(**settings: object) -> Stage:
        return Stage("evaluate", "projects.mobilesam.evaluate", {**teacher, **settings}, run="test")

    def student(stage: Stage) -> Stage:
        return evaluate(**{"model.student_weights": stage.weights})

    decoupled = distill("decoupled", **stored)
    semi_coupled = distill("semi_coupled")
    coupled = distill("coupled")
    finetuned = distill("decoder_finetuning", **{"model.student_weights": decoupled.weights})
    own = Stage(
        "evaluate", "projects.mobilesam.evaluate", {**teacher, "model.encoder": "teacher"}, run="test", shared=True
    )
    return {
        "teacher": Arm([own], "SAM itself: the upper bound"),
        "decoupled": Arm(
            [student(decoupled)],
            "encoder regresses the teacher's embedding; the teacher's decoder, untouched",
            method=True,
        ),
        "semi_coupled": Arm([student(semi_coupled)], "encoder learns from masks through the teacher's frozen decoder"),
        "coupled": Arm([student(coupled)], "encoder and decoder both start anew and learn from masks"),
        "decoupled_finetuned": Arm([student(finetuned)], "decoupled, then a short finetuning of the decoder on masks"),
        "untrained": Arm([evaluate()], "random encoder before the teacher's decoder: the lower bound"),
    }


RECIPE = Recipe(
    title="Faster Segment Anything: Towards Lightweight SAM for Mobile Applications (MobileSAM)",
    modality="image segmentation",
    arms=arms,
    arms_with=lambda data: arms("mini", SAM_PHOTOS),
    data={
        "coco": Download(
            name="COCO 2017 with panoptic annotations (or a part of it)",
            path="$DATA_ROOT",
            source="cocodataset.org: 2017 Train images, 2017 Val images, 2017 Panoptic Train/Val annotations",
            gigabytes=21,
            licence="annotations CC BY 4.0, images under their Flickr licences",
            layout="images/{train,val}2017/*.jpg, panoptic_segmentation/annotations/panoptic_{train,val}2017.json and "
            "folders of PNGs; or COCO's own {train,val}2017/*.jpg and annotations/panoptic_{train,val}2017{.json,/}",
        )
    },
    downloads=(
        Download(
            name="SAM ViT-H weights",
            path="$WEIGHTS_ROOT/sam_vit_h_4b8939.pth",
            source="the model checkpoints section of github.com/facebookresearch/segment-anything",
            gigabytes=2.56,
            licence="Apache-2.0",
        ),
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
    plan="projects.mobilesam.harness.plan:workload",
    speed="projects.mobilesam.harness.speed:speed",
)
