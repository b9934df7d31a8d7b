"""The detector: what it learns from, what each step trains, what it answers; encoders in their official names."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from common.data.scene import Scene, SceneSource
from common.errors import UserError
from common.models.sam import build_sam
from common.models.tiny_vit import TinyViT
from common.training.weights import load_weights
from projects.mobilesamv2.data import DetectionSamples, collate
from projects.mobilesamv2.detect import DetectorTraining
from projects.mobilesamv2.detector import DetectorConfig, ObjectDetector, snap_to_border
from projects.mobilesamv2.efficientvit import EfficientVitConfig, EfficientVitEncoder, from_official
from projects.mobilesamv2.harness.rehearsal import EFFICIENTVIT, official
from projects.mobilesamv2.models import load_segmenter, read_detector
from tests.projects.mobilesam_small import SAM, SHAPES, TINY_VIT, picture
from tests.projects.mobilesamv2_small import DETECTOR, small_detector, small_sam, write_detector


class Two(SceneSource):
    """A picture of two rectangles, with a third mask that is empty; and one of nothing."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        masks = np.zeros((3, 60, 90), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, SHAPES.values(), strict=False):
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
        return Scene(picture(), masks if index == 0 else masks[:0], str(index))


def batch(instances):
    samples = DetectionSamples(Two(), 64, 2, instances, cache=True)
    return collate([samples.draw(k, np.random.default_rng(k)) for k in range(2)])


def test_boxes_and_masks_are_in_the_frame_of_the_image():
    found = batch(1)
    assert found["image"].shape == (2, 3, 64, 64)
    scale = np.array([64 / 90, 43 / 60] * 2)
    torch.testing.assert_close(found["boxes"][0], torch.tensor(np.array([*SHAPES.values()]) * scale).float())
    assert found["boxes"][1].shape == (0, 4) and found["masks"][1].shape == (0, 32, 32)
    [mask], [box] = found["masks"][0], found["masked"][0]
    rows, columns = torch.where(mask)
    edges = torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]) * 2
    assert (edges - box).abs().max() < 3
    assert len(batch(9)["masks"][0]) == 2 and len(batch(0)["masks"][0]) == 0


@pytest.mark.parametrize("instances", [0, 2])
def test_each_step_trains_what_it_supervises(instances, monkeypatch):
    torch.manual_seed(0)
    module = DetectorTraining(DETECTOR)
    data = SimpleNamespace(instances=instances, mask_stride=2)
    monkeypatch.setattr(DetectorTraining, "trainer", SimpleNamespace(datamodule=data))
    said = {}
    module.log = said.__setitem__
    module.log_dict = said.update
    module.setup("fit")
    loss = module.training_step(batch(instances), 0)
    loss.backward()
    terms = {"classification", "bbox_regression", "bbox_ctrness"} | ({"mask"} if instances else set())
    assert {f"train/{name}" for name in terms} | {"train/loss"} == set(said)
    torch.testing.assert_close(loss, sum(said[f"train/{name}"] for name in terms))
    moved = {name for name, p in module.detector.named_parameters() if p.grad is not None}
    assert any(name.startswith("mask_head.") for name in moved) == bool(instances)
    assert moved == {name for name, p in module.detector.named_parameters() if p.requires_grad}


def test_it_learns_one_picture():
    torch.manual_seed(0)
    detector, given = ObjectDetector(DETECTOR), batch(2)
    optimiser = torch.optim.Adam(detector.parameters(), 3e-3)
    for _ in range(60):
        terms = detector.losses(given["image"], given["boxes"], given["masks"], given["masked"], 2)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    detector.eval()
    features = detector.features(given["image"][:1])
    [found] = detector.detect(given["image"][:1], [(43, 64)], 0.2, 0.5, 2, features)
    assert (found.boxes[found.boxes[:, 0].argsort()] - given["boxes"][0]).abs().max() < 4
    assert detector.masks(given["image"][:1], features, found.boxes).mean() > 0.7  # rectangles fill their boxes


def test_the_best_boxes_come_first_snapped_and_inside():
    images = torch.randn(1, 3, 64, 64)
    [found] = small_detector().detect(images, [(40, 64)], 0.0, 1.0, 20)
    assert len(found.boxes) == 20 and found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.boxes.min() >= 0 and (found.boxes.amax(0) <= torch.tensor([64, 40, 64, 40])).all()
    [none] = small_detector().detect(images, [(40, 64)], 1.0)
    assert none.boxes.shape == (0, 4)


def test_border_snapping_is_in_the_image_s_area_and_changes_no_other_side():
    whole = snap_to_border(torch.tensor([[1.0, 2.0, 79.0, 63.0]]), (64, 80), 3)
    assert whole.tolist() == [[0.0, 0.0, 80.0, 64.0]]
    inner = torch.tensor([[3.0, 20.0, 77.0, 30.0]])
    assert torch.equal(snap_to_border(inner, (64, 80), 3), inner)


def test_a_detector_of_another_form_is_refused(tmp_path):
    for sizes, message in (({"resnet": "", "widths": (8,)}, "2 levels"), ({"channels": 40}, "multiple of 32")):
        with pytest.raises(UserError, match=message):
            DetectorConfig(**sizes)
    weights = write_detector(tmp_path / "run")
    assert torch.equal(read_detector(weights, 64).state_dict()["fcos.head.regression_head.bbox_reg.weight"],
                       small_detector().state_dict()["fcos.head.regression_head.bbox_reg.weight"])  # fmt: skip
    with pytest.raises(UserError, match="of 64 pixels, SAM's weights are for 1024"):
        read_detector(weights, 1024)
    (weights.parent / "config.yaml").write_text("model: {sam: {}}\n")
    with pytest.raises(UserError, match="lacks what is needed here"):
        read_detector(weights, 64)


def test_efficientvit_has_the_released_size_and_names():
    """61.3 M parameters with SAM's decoder (EfficientViT-SAM, Table 1), 4.06 M of them the decoder's."""
    with torch.device("meta"):
        encoder = EfficientVitEncoder(EfficientVitConfig())
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(57.3e6, rel=0.002)
    names = official(encoder.state_dict())
    for name in (
        "backbone.stages.0.op_list.1.main.conv1.conv.weight",
        "backbone.stages.4.op_list.1.context_module.main.aggreg.0.0.weight",
        "neck.input_ops.2.op_list.0.norm.running_var", "neck.middle.op_list.11.main.spatial_conv.conv.weight",
        "neck.output_ops.0.op_list.0.conv.bias", "norm.weight",
    ):  # fmt: skip
        assert f"image_encoder.{name}" in names
    assert set(from_official(names)) == set(encoder.state_dict())


@pytest.mark.parametrize("kind", ["tiny", "efficientvit"])
def test_a_distilled_encoder_stands_before_sams_decoder(kind, tmp_path):
    torch.manual_seed(0)
    sam, sizes = small_sam(), TINY_VIT
    save_file(sam.state_dict(), tmp_path / "sam.safetensors")
    if kind == "tiny":
        trained = build_sam(SAM, TinyViT(TINY_VIT)).eval()
        state = {**trained.state_dict(), "image_encoder.head.weight": torch.zeros(3)}
    else:
        sizes = EfficientVitConfig(**{**vars(EFFICIENTVIT), "image_size": 64, "out_chans": 32})
        trained = build_sam(SAM, EfficientVitEncoder(sizes)).eval()
        state = {f"sam.{key}": value for key, value in official(trained.image_encoder.state_dict()).items()}
    torch.save(state, tmp_path / "encoder.pt")
    found = load_segmenter(SAM, str(tmp_path / "sam.safetensors"), sizes, str(tmp_path / "encoder.pt"))
    images = torch.randn(1, 3, 64, 64)
    assert found.image_encoder(images).shape == (1, 32, SAM.embedding_size, SAM.embedding_size)
    torch.testing.assert_close(found.image_encoder(images), trained.image_encoder(images), atol=1e-5, rtol=1e-5)
    assert torch.equal(found.mask_decoder.iou_token.weight, sam.mask_decoder.iou_token.weight)
    with pytest.raises(UserError, match="encoder_weights"):
        load_segmenter(SAM, str(tmp_path / "sam.safetensors"), sizes)


def test_a_backbone_starts_from_torchvision_s_weights(tmp_path):
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    config = DetectorConfig(64, "resnet18", head_convs=1, mask_convs=1)
    module = DetectorTraining(config, backbone_weights=str(tmp_path / "resnet18.pth"))
    expected = load_weights(resnet18(), tmp_path / "resnet18.pth").state_dict()["layer4.1.conv2.weight"]
    assert torch.equal(module.detector.fcos.backbone.body.state_dict()["layer4.1.conv2.weight"], expected)
