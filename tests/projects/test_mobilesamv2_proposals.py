"""Proposals: the order of filters is SAM's, chunks change nothing, no box gives no mask; what the measures say."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils import amg

from common.data.promptable import PromptableData
from common.data.prompts import box_prompts, tight_boxes
from common.data.worlds.shapes import ShapeScenes
from common.evaluators.detection import encode_masks
from common.models.sam import preprocess
from projects.mobilesamv2.everything import Everything, count_parts
from projects.mobilesamv2.propose import Filters, centres, decode, grid_points, propose
from tests.projects.mobilesam_small import SAM, picture
from tests.projects.mobilesamv2_small import DETECTOR, small_sam, write_detector, write_sam


@pytest.fixture(scope="module")
def seen():
    """A SAM whose masks are not all alike, its embedding of a picture that is not square, and the sizes."""
    sam = small_sam()
    for mlp in sam.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight.mul_(3000)
    image = picture()
    images, size = preprocess(image, 64)
    with torch.no_grad():
        embedding = sam.image_encoder(images[None])
        _, logits, _ = next(decode(sam, embedding, grid_points(6, image.shape[:2], 64), True, 64))
    sam.mask_threshold = float(logits.flatten().quantile(0.9))  # random masks cover all of an image, or nothing
    return sam, embedding, size, image.shape[:2], image


def decoded(found):
    return sorted(bytes(mask["counts"]) for mask in found.masks)


def test_a_grid_is_proposed_as_sams_own_generator_does(seen):
    sam, embedding, size, shape, image = seen
    filters = Filters(min_iou=-9.0, min_stability=0.3, overlap=0.9)
    found = propose(sam, embedding, grid_points(6, shape, 64), size, shape, 3, filters=filters)
    generator = SamAutomaticMaskGenerator(
        sam, 6, pred_iou_thresh=-9.0, stability_score_thresh=0.3, box_nms_thresh=0.9, output_mode="coco_rle"
    )
    theirs = generator.generate(image)
    assert 3 < len(found.masks) < 108
    assert decoded(found) == sorted(record["segmentation"]["counts"].encode() for record in theirs)
    np.testing.assert_allclose(sorted(found.scores.tolist()), sorted(r["predicted_iou"] for r in theirs), atol=1e-5)
    assert found.prompts == 36


def test_filters_and_single_masks_of_a_grid(seen):
    sam, embedding, size, shape, _ = seen
    points = grid_points(3, shape, 64)
    assert len(propose(sam, embedding, points, size, shape, 3).masks) == 27
    assert len(propose(sam, embedding, points, size, shape, 1).masks) == 9
    assert propose(sam, embedding, points, size, shape, 3, filters=Filters(min_iou=9.0)).masks == []
    assert propose(sam, embedding, points, size, shape, 3, filters=Filters(-9.0, 1.1)).masks == []


def test_chunks_change_nothing(seen):
    sam, embedding, size, shape, _ = seen
    boxes = box_prompts(torch.rand(7, 4).cumsum(1).numpy() * 15)
    whole, parts = (propose(sam, embedding, boxes, size, shape, chunk=chunk) for chunk in (320, 1))
    assert decoded(whole) == decoded(parts)
    torch.testing.assert_close(whole.scores, parts.scores, atol=1e-5, rtol=0)


def test_no_box_gives_no_mask_and_scores_are_the_detector_s(seen):
    sam, embedding, size, shape, _ = seen
    for filters in (None, Filters()):
        none = propose(sam, embedding, box_prompts(np.zeros((0, 4))), size, shape, filters=filters)
        assert (none.masks, len(none.scores), none.prompts) == ([], 0, 0)
    assert len(propose(sam, embedding, centres(torch.zeros(0, 4)), size, shape, 3).masks) == 0
    boxes, scores = torch.rand(3, 4).cumsum(1) * 15, torch.tensor([0.9, 0.5, 0.7])
    assert torch.equal(propose(sam, embedding, box_prompts(boxes.numpy()), size, shape, scores=scores).scores, scores)


def test_points_lie_as_the_paper_puts_them():
    points = grid_points(5, (50, 100), 64).coords[:, 0] / torch.tensor([64.0, 32.0])
    torch.testing.assert_close(points[[0, 1, -1]], torch.tensor([[0.1, 0.1], [0.3, 0.1], [0.9, 0.9]]))
    assert centres(torch.tensor([[2.0, 4.0, 10.0, 20.0]])).coords.tolist() == [[[6.0, 12.0]]]


def test_parts_are_proposals_within_an_object_that_miss_half_of_it():
    masks = np.asarray(ShapeScenes("val", 1)[0].masks)
    truth = encode_masks(masks)
    x0, y0, x1, _ = tight_boxes(masks)[0].astype(int)
    half = masks[:1].copy()
    half[:, :, (2 * x0 + x1) // 3 :] = False
    assert count_parts(truth, truth) == 0
    assert count_parts(encode_masks(np.ones_like(half)), truth) == 0
    assert count_parts(encode_masks(half), truth) == 1
    assert count_parts([], truth) == count_parts(truth, []) == 0


def test_sams_border_filter_cuts_nothing_where_the_crop_is_the_image():
    boxes = torch.tensor([[0, 0, 5, 5], [3, 3, 40, 30]])
    assert not amg.is_box_near_crop_edge(boxes, [0, 0, 60, 40], [0, 0, 60, 40]).any()


@pytest.mark.parametrize("prompts", ["grid", "boxes", "points", "oracle", "random", "detector"])
def test_every_way_of_prompting_is_measured(prompts, tmp_path):
    """Through the stage's own class: two scenes of the world, and one of validation."""
    given = {"sam_weights": str(write_sam(tmp_path / "sam")), "prompts": prompts, "side": 3, "pictures": 1}
    given |= {"detector": DETECTOR, "detector_weights": str(write_detector(tmp_path / "detector")), "confidence": 0.05}
    module = Everything(SAM, top=(2, 8), also=(4,), areas={"small": (0, 200), "none": (5000, 6000)}, most=6, **given)
    module.run_dir = tmp_path
    data = PromptableData(test=ShapeScenes("test", 2), val=ShapeScenes("val", 1), image_size=64)
    [found] = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu").test(module, data, verbose=False)[:1]
    count = {"grid": 9, "detector": 0, "oracle": len(ShapeScenes("test", 2)[0].masks)}.get(prompts, 6)
    assert prompts == "oracle" or found["test/prompts"] == count
    assert {"test/ar", "test/ar_small", "test/ar_4", "test/val_ar", "test/decoder_ms"} <= set(found)
    assert "test/ar_none" not in found
    assert found["test/ar"] == pytest.approx((found["test/ar_2"] + found["test/ar_8"]) / 2)
    assert (tmp_path / "pictures/index.json").is_file()
    each = module.flops["prompt"]
    assert found["test/decoder_gflop"] == pytest.approx((found["test/prompts"] * each + module.flops["detector"]) / 1e9)
