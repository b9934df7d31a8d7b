"""Average recall and precision: closed forms, sanity of the metric, agreement with COCO's own evaluation."""

import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from common.evaluators.detection import COCO_AREAS, AveragePrecision, AverageRecall, encode_masks, match_ranks


def rectangles(boxes, side=100):
    masks = np.zeros((len(boxes), side, side), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


TRUTH = rectangles([(0, 0, 20, 20), (40, 40, 90, 90), (10, 70, 30, 95), (60, 5, 95, 30)])


def recall(proposals, scores=None, top=(1, 2, 4, 100), truth=TRUTH):
    metric = AverageRecall(top, {})
    scores = torch.arange(len(proposals), 0, -1.0) if scores is None else torch.tensor(scores)
    metric.update(encode_masks(proposals), scores, encode_masks(truth))
    return {name: value.item() for name, value in metric.compute().items()}


def test_perfect_constant_and_no_proposals():
    assert recall(TRUTH) == {"ar_1": 0.25, "ar_2": 0.5, "ar_4": 1.0, "ar_100": 1.0}
    assert set(recall(np.ones((1, 100, 100), bool)).values()) == {0.0}
    assert set(recall(TRUTH[:0]).values()) == {0.0}
    assert np.isnan(recall(TRUTH, truth=TRUTH[:0])["ar_1"])


def test_an_overlap_of_072_is_found_at_half_of_the_thresholds():
    whole, part = rectangles([(0, 0, 100, 100)]), rectangles([(0, 0, 100, 72)])
    assert recall(part, truth=whole)["ar_1"] == pytest.approx(0.5)


def test_duplicates_add_nothing_and_cost_places():
    doubled = np.concatenate([TRUTH[:1], TRUTH])
    assert recall(doubled) == {"ar_1": 0.25, "ar_2": 0.25, "ar_4": 0.75, "ar_100": 1.0}


def test_the_best_scores_count_and_recall_grows_with_k():
    scores = [0.1, 0.9, 0.5, 0.7]
    assert recall(TRUTH[:2], scores[:2], truth=TRUTH[1:2])["ar_1"] == 1.0
    rng = np.random.default_rng(0)
    noisy = np.concatenate([rectangles(random_boxes(rng, 30)), TRUTH])
    found = recall(noisy, rng.random(34).tolist(), top=range(1, 35))
    assert list(found.values()) == sorted(found.values()) and found["ar_34"] == 1.0
    assert all(value <= k / 4 + 1e-6 for k, value in enumerate(found.values(), 1))


def test_objects_of_all_images_count_alike():
    metric = AverageRecall([10], {})
    metric.update(encode_masks(TRUTH), torch.ones(4), encode_masks(TRUTH))
    metric.update([], torch.zeros(0), encode_masks(TRUTH[:1]))
    assert metric.compute()["ar_10"].item() == pytest.approx(4 / 5)
    with pytest.raises(ValueError, match="scores"):
        metric.update([], torch.zeros(1), [])


def test_a_proposal_takes_the_nearest_free_object():
    iou = np.array([[0.6, 0.9], [0.55, 0.95], [0.7, 0.0]])
    assert match_ranks(iou, np.array([0.5, 0.58, 0.92])).tolist() == [[1, 0], [2, 0], [3, 1]]


def random_boxes(rng, count):
    corners = rng.integers(0, 80, (count, 2))
    return np.concatenate([corners, np.minimum(corners + rng.integers(4, 70, (count, 2)), 100)], 1)


def evaluated(images, top, use_categories):
    """COCO's own evaluation of [(masks, scores, truth)], all of one category."""
    truth, found, infos = [], [], []
    for number, (masks, scores, objects) in enumerate(images, 1):
        infos.append({"id": number, "height": 100, "width": 100})
        for rle in encode_masks(objects):
            area, key = float(coco_mask.area(rle)), len(truth) + 1
            truth.append({"id": key, "image_id": number, "category_id": 1, "iscrowd": 0, "area": area})
            truth[-1] |= {"segmentation": rle, "bbox": coco_mask.toBbox(rle).tolist()}
        for rle, score in zip(encode_masks(masks), scores, strict=True):
            found.append({"image_id": number, "category_id": 1, "segmentation": rle, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {"images": infos, "annotations": truth, "categories": [{"id": 1, "name": "object"}]}
        known.createIndex()
        run = COCOeval(known, known.loadRes(found), "segm")
        run.params.useCats, run.params.maxDets = use_categories, list(top)
        run.evaluate()
        run.accumulate()
    return run.eval


def some_images():
    rng = np.random.default_rng(1)
    images = []
    for _ in range(6):
        truth = rectangles([*random_boxes(rng, 7), (0, 0, 100, 97)])
        near = [(a, b, max(c - 3, a + 1), d) for a, b, c, d in random_boxes(rng, 12)]
        masks = np.concatenate([rectangles(near), truth[:5] & ~rectangles([(0, 0, 30, 100)])])
        images.append((masks, rng.permutation(len(masks)) / 50, truth))
    return images


def test_recall_is_that_of_coco_s_evaluation():
    images, top = some_images(), (1, 3, 10)
    metric = AverageRecall(top)
    for masks, scores, truth in images:
        metric.update(encode_masks(masks), torch.tensor(scores), encode_masks(truth))
    found, expected = metric.compute(), evaluated(images, top, 0)["recall"]
    for k, area in enumerate(["", *COCO_AREAS]):
        for n, most in enumerate(top):
            values = expected[:, 0, k, n]
            name = f"ar_{most}{'_' * bool(area)}{area}"
            assert found[name].item() == pytest.approx(values[values > -1].mean(), abs=1e-6), name


@pytest.mark.parametrize("most", [3, 10, 300])
@pytest.mark.parametrize("agnostic", [False, True])
def test_precision_is_that_of_coco_s_evaluation_for_any_number_of_detections(most, agnostic):
    images = some_images()
    metric = AveragePrecision("segm", most, class_agnostic=agnostic)
    for masks, scores, truth in images:
        one = torch.ones(len(masks), dtype=torch.int64)
        given = {"masks": torch.from_numpy(masks), "scores": torch.tensor(scores), "labels": one}
        metric.update([given], [{"masks": torch.from_numpy(truth), "labels": one[: len(truth)]}])
    found, expected = metric.compute(), evaluated(images, [most], int(not agnostic))["precision"][:, :, 0, :, 0]
    assert found["ap"].item() == pytest.approx(expected[..., 0].mean(), abs=1e-6)
    assert found["ap_50"].item() == pytest.approx(expected[0, :, 0].mean(), abs=1e-6)
    assert 0 < found["ap"] < found["ap_50"] < 1


def test_precision_of_boxes_sanity():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 90.0, 90.0]])
    label = torch.zeros(2, dtype=torch.int64)

    def ap(detected, crowd=(0, 0)):
        metric = AveragePrecision(most=32)
        truth = {"boxes": boxes, "labels": label, "iscrowd": torch.tensor(crowd)}
        metric.update([{"boxes": detected, "scores": torch.tensor([0.9, 0.8]), "labels": label}], [truth])
        return metric.compute()["ap"].item()

    assert ap(boxes) == pytest.approx(1.0)
    assert ap(boxes + 500) == 0.0
    assert ap(boxes.flip(0) * torch.tensor([[1.0], [0.1]]), crowd=(1, 0)) == pytest.approx(1.0)  # one is of the crowd
    empty = AveragePrecision(most=32)
    empty.update(
        [{"boxes": boxes, "scores": torch.ones(2), "labels": label}], [{"boxes": boxes[:0], "labels": label[:0]}]
    )
    assert torch.isnan(empty.compute()["ap"])
