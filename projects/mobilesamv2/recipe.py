"""MobileSAMv2: which ways to prompt SAM's decoder for a whole image are compared."""

from typing import Any

from common.downloads import COCO_PANOPTIC, MOBILE_SAM, SAM_VIT_H
from common.recipe import Arm, Download, Recipe, Scale, Stage

SAM = Stage("sam", "common.foundations.sam", shared=True)
SAM_PHOTOS = Stage("sam_photos", "common.foundations.sam", {"model.start": SAM.weights}, shared=True)
TINY = Stage("mobile_sam", "common.foundations.mobile_sam", {"model.teacher_weights": SAM.weights}, shared=True)
TINY_PHOTOS = Stage(
    "mobile_sam_photos", "common.foundations.mobile_sam", {"model.teacher_weights": SAM_PHOTOS.weights}, shared=True
)
SA1B = "ai.meta.com/datasets/segment-anything-downloads (accept the licence there)"
SIDES = {"mini": (8, 16, 32), "paper": (16, 32, 64), "rehearsal": (2,)}
"""Points of the sides of the grids: the paper's, and half of that in the pictures of the mini scale."""

SEEDLESS = ("grid", "oracle", "random")
"""Prompts that need no detector."""
REHEARSED_AS = dict.fromkeys(("points", "boxes_filtered", "boxes_first", "boxes_384"), "boxes") | {
    "grid_tiny": "boxes_tiny"
}


def arms(scale: Scale, sam: Stage = SAM, tiny: Stage = TINY) -> dict[str, Arm]:
    """At mini scale the decoder is that of the small SAM `sam`, the distilled encoder that of `tiny`; else they are the
    published SAM ViT-H, MobileSAM's TinyViT and EfficientViT-SAM's L2."""
    mini = scale == "mini"
    weights = {"model.sam_weights": sam.weights} if mini else {}
    distilled = {"model.encoder_weights": tiny.weights} if mini else {}
    masks = Stage("detector_masks", "projects.mobilesamv2.detect", base="detector")
    detector = Stage("detector_boxes", "projects.mobilesamv2.detect", {"model.weights": masks.weights}, base="detector")
    boxes = {"model.detector_weights": detector.weights}

    def measured(prompts: str, name: str = "everything", **settings: object) -> list[Stage]:
        """An arm's only stage of its own. What has no detector has no seed."""
        own = {f"model.{key}": value for key, value in settings.items()}
        if name == "everything_tiny":
            own |= distilled
        if prompts not in SEEDLESS:
            own = boxes | own
        base = "base" if name == "everything" else "everything"
        shared = prompts in SEEDLESS
        own = {**weights, "model.prompts": prompts, **own}
        return [Stage(name, "projects.mobilesamv2.everything", own, run="test", shared=shared, base=base)]

    # its best filters by validation, chosen as the grid's were
    tuned: dict[str, Any] = {"filters.min_stability": 0.1, "filters.overlap": 0.7} if mini else {}
    found = {
        "boxes": Arm(measured("boxes"), "the detector's boxes, a mask each, nothing filtered", method=True),
        "points": Arm(measured("points"), "the middle points of these boxes, a mask each, nothing filtered"),
        "points_3": Arm(
            measured("points", masks=3, **tuned), "the same points, three masks each, filtered as the grid's"
        ),
        "boxes_filtered": Arm(measured("boxes", filtered=True), "the boxes, their masks filtered as the grid's"),
        "oracle": Arm(measured("oracle"), "the true boxes, a mask each: a perfect detector"),
        "random": Arm(measured("random"), "as many boxes as the detector may give, at random: the floor"),
        "boxes_first": Arm(
            measured("boxes", detector_weights=masks.weights), "the boxes of the detector as it is after its first step"
        ),
        "prompt_free": Arm(
            measured("detector", detector_weights=masks.weights),
            "the same boxes, with the masks of the detector's own branch, without SAM",
        ),
    }
    middle = SIDES[scale][len(SIDES[scale]) // 2]
    for side in SIDES[scale]:
        found[f"grid_{side}"] = Arm(
            measured("grid", masks=3, side=side), f"{side} x {side} points, three masks each, with SAM's filters"
        )
        if scale == "paper" or (mini and side == middle):
            found[f"grid_{side}_single"] = Arm(
                measured("grid", side=side), f"{side} x {side} points, a mask each, with SAM's filters"
            )
    found["boxes_tiny"] = Arm(measured("boxes", "everything_tiny"), "the boxes, behind a distilled TinyViT")
    found["grid_tiny"] = Arm(
        measured("grid", "everything_tiny", masks=3, side=middle),
        f"{middle} x {middle} points, three masks each, filtered, behind a distilled TinyViT",
    )
    if not mini:
        found["boxes_384"] = Arm(measured("boxes", most=384), "the boxes, at most 384 of them (Table 7)")
        found["boxes_efficientvit"] = Arm(
            measured("boxes", "everything_efficientvit"), "the boxes, behind a distilled EfficientViT-L2"
        )
    if scale == "rehearsal":  # arms that differ in a number or a file alone share their stages
        for name, like in REHEARSED_AS.items():
            found[name] = Arm(found[like].stages, found[name].description)
    return found


RECIPE = Recipe(
    title="MobileSAMv2: Faster Segment Anything to Everything",
    modality="image segmentation",
    arms=arms,
    arms_with=lambda data: arms("mini", SAM_PHOTOS, TINY_PHOTOS),
    data={"coco": COCO_PANOPTIC},
    downloads=(
        SAM_VIT_H,
        MOBILE_SAM,
        Download(
            name="EfficientViT-SAM's L2, or MobileSAMv2's l2.pt",
            path="$WEIGHTS_ROOT/l2.pt",
            source="mit-han-lab/efficientvit-sam on the Hugging Face hub (efficientvit_sam_l2.pt), or the drive that "
            "the README of github.com/ChaoningZhang/MobileSAM names",
            gigabytes=0.25,
            licence="Apache-2.0",
        ),
        Download(
            name="torchvision's ResNet-50, trained on ImageNet",
            path="$WEIGHTS_ROOT/resnet50-11ad3fa6.pth",
            source="download.pytorch.org/models/resnet50-11ad3fa6.pth",
            gigabytes=0.1,
            licence="BSD-3-Clause",
        ),
        Download(
            name="SA-1B for the detector: one tar, about 11,000 images",
            path="$DATA_ROOT/sa1b/train",
            source=SA1B,
            gigabytes=11,
            licence="SA-1B research licence",
            layout="sa_000000.tar, read as it is; unpacked sa_*.jpg and sa_*.json work too",
        ),
        Download(
            name="LVIS v1, validation, with COCO's images",
            path="$DATA_ROOT/lvis",
            source="lvisdataset.org (lvis_v1_val.json); cocodataset.org: 2017 Val images, 2017 Train images",
            gigabytes=20,
            licence="annotations CC BY 4.0, images under their Flickr licences",
            layout="annotations/lvis_v1_val.json, val2017/*.jpg, train2017/*.jpg",
        ),
    ),
    stand_ins="projects.mobilesamv2.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.mobilesamv2.harness.plan:workload",
    speed="projects.mobilesamv2.harness.speed:speed",
)
