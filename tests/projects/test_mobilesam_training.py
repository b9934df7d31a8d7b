"""What MobileSAM's stages learn from and are measured by: labels, trained parts, published weights, metrics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import default_collate

from common.data.promptable import PromptableData, PromptSamples, SceneBatch
from common.data.worlds.shapes import ShapeScenes
from common.errors import UserError
from common.models.sam import build_sam, predict_masks
from common.models.tiny_vit import TinyViT
from common.training.segmentation import KINDS, batch_prompts, best_mask
from projects.mobilesam.distill import TRAINED, Distillation
from projects.mobilesam.evaluate import Evaluation
from projects.mobilesam.teacher import load_teacher
from tests.projects.mobilesam_small import SAM, TINY_VIT

COUPLINGS = tuple(TRAINED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """teacher.pth, a SAM of random weights, and mobile_sam.pt with the classifier that nothing uses."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    sam = build_sam(SAM)
    for name, parameter in sam.image_encoder.named_parameters():
        if "pos" in name:  # they start as zeros
            parameter.data.normal_()
    torch.save(sam.state_dict(), folder / "teacher.pth")
    student = build_sam(SAM, TinyViT(TINY_VIT)).state_dict()
    classifier = {"norm_head.weight": 24, "norm_head.bias": 24, "head.bias": 10}
    torch.save(
        {**student, **{f"image_encoder.{name}": torch.zeros(size) for name, size in classifier.items()}},
        folder / "mobile_sam.pt",
    )
    return folder


@pytest.fixture
def stage(folder):
    """A `Distillation` with a live teacher."""

    def make(coupling: str, **settings) -> Distillation:
        torch.manual_seed(1)
        if coupling.endswith("finetuning"):
            settings = {"student_weights": str(folder / "mobile_sam.pt"), **settings}
        settings = {"teacher_weights": str(folder / "teacher.pth"), "live_teacher": True, **settings}
        return Distillation(SAM, TINY_VIT, coupling=coupling, **settings)

    return make


def batch(instances: int = 3) -> dict[str, torch.Tensor]:
    samples = PromptSamples(ShapeScenes("train", 3, 64), 64, 4, instances)
    return default_collate([samples.draw(i, np.random.default_rng(i)) for i in range(3)])


def test_a_student_that_is_the_teacher_agrees_with_every_label(stage, folder):
    """Labels are the teacher's answers to the student's own prompts: of each kind, and not the data's masks."""
    twin = stage("semi_coupled", vit=SAM, student_weights=str(folder / "teacher.pth"))
    given = batch()
    with torch.no_grad():
        embedding = twin.student.image_encoder(given["image"])
        answers = []
        for kind in KINDS:
            prompts = batch_prompts(given, kind)
            labels = twin._masks(given, prompts, kind)
            logits = stage_answer(twin, embedding, prompts, kind)
            assert torch.equal(labels, logits > 0) and not torch.equal(labels, given["masks"].flatten(0, 1))
            answers.append(labels)
        assert len({tuple(labels.flatten().tolist()) for labels in answers}) == len(KINDS)
    own = stage("semi_coupled", labels="data")
    assert torch.equal(own._masks(given, batch_prompts(given, "box"), "box"), given["masks"].flatten(0, 1))


def stage_answer(stage: Distillation, embedding: torch.Tensor, prompts, kind: str) -> torch.Tensor:
    return best_mask(*predict_masks(stage.student, embedding, prompts, multimask=kind == "point"))


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_step_moves_what_the_coupling_trains_and_nothing_else(coupling, stage, folder):
    module = stage(coupling)
    module.log = module.log_dict = lambda *_, **__: None
    module.training_step(batch(), 0).backward()
    reached = {name.split(".")[1] for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    names = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}
    assert reached == set(TRAINED[coupling]) and names == {"student"}
    optimised = {id(p) for group in module._groups() for p in group["params"]}
    assert optimised == {id(p) for name in TRAINED[coupling] for p in getattr(module.student, name).parameters()}
    teacher = load_teacher(SAM, str(folder / "teacher.pth"), encoder=False)
    borrowed = coupling in ("decoupled", "semi_coupled", "coupled")
    same = torch.equal(module.student.mask_decoder.iou_token.weight, teacher.mask_decoder.iou_token.weight)
    assert same is borrowed


@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_stored_embeddings_and_a_live_teacher_give_the_same_step(coupling, stage):
    live, stored, given = stage(coupling), stage(coupling, live_teacher=False), batch()
    with torch.no_grad():
        embedding = live.teacher.image_encoder(given["image"])
    losses = []
    for module, data in ((live, given), (stored, {**given, "embedding": embedding})):
        module.log = module.log_dict = lambda *_, **__: None
        torch.manual_seed(2)
        losses.append(module.eval().training_step(data, 0))
    assert torch.equal(*losses) and losses[0] > 0
    assert sum(p.numel() for p in stored.teacher.image_encoder.parameters()) == 0  # ViT-H would be 2.5 GB
    with pytest.raises(UserError, match=r"--data\.embeddings"):
        stored.training_step(given, 0)


def test_decoupled_is_the_mean_squared_error(stage):
    module, given = stage("decoupled").eval(), batch()
    module.log = lambda *_, **__: None
    with torch.no_grad():
        expected = F.mse_loss(
            module.student.image_encoder(given["image"]), module.teacher.image_encoder(given["image"])
        )
        torch.testing.assert_close(module.training_step(given, 0), expected)


def test_published_weights_load_in_training_and_evaluation(folder, stage):
    """`mobile_sam.pt` holds an ImageNet classifier that nothing uses."""
    official = torch.load(folder / "mobile_sam.pt", weights_only=True)
    path = str(folder / "mobile_sam.pt")
    trained = stage("joint_finetuning").student
    measured = Evaluation(SAM, str(folder / "teacher.pth"), TINY_VIT, student_weights=path).model
    for sam in (trained, measured):
        assert all(torch.equal(value, official[key]) for key, value in sam.state_dict().items())
    own = Distillation(SAM, TINY_VIT, student_weights=path, coupling="decoder_finetuning", labels="data")
    assert own.teacher is None  # masks of one's own need none


def test_checkpoints_leave_the_teacher_out_and_find_it_again(stage):
    module = stage("coupled")
    saved = {"state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(saved)
    assert {key.split(".")[0] for key in saved["state_dict"]} == {"student"}
    module.on_load_checkpoint(saved)
    module.load_state_dict(saved["state_dict"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coupling": "joint_finetuning"}, "starts from a trained student"),
        ({"coupling": "decoupled", "labels": "data"}, "labels data goes with the other couplings"),
        ({"coupling": "coupled"}, "no teacher: give --model.teacher_weights"),
        ({"coupling": "semi_coupled", "labels": "data"}, "no teacher: give --model.teacher_weights"),
    ],
)
def test_what_cannot_be_trained_is_said(settings, message):
    with pytest.raises(UserError, match=message):
        Distillation(SAM, TINY_VIT, **settings)


def test_a_vit_student_must_give_the_teachers_embedding(stage):
    with pytest.raises(UserError, match="its embedding must have the teacher's shape"):
        stage("decoupled", vit=type(SAM)(patch_size=8, prompt_dim=32))


class Answers(Evaluation):
    """An evaluation whose model gives masks of a rule instead of its own; the teacher's stay."""

    rule = None

    def masks(self, sam, embedding, prompts, kind, size, shape):
        masks = super().masks(sam, embedding, prompts, kind, size, shape)
        return masks if sam is self.teacher or self.rule is None else self.rule(masks)


@pytest.fixture
def measured(folder):
    """Evaluate four scenes of the world -> the evaluation, with its metrics filled."""

    def run(rule=None, images=lambda x: x, **settings) -> Answers:
        settings = {"student_weights": str(folder / "teacher.pth"), "vit": SAM, **settings}
        found = Answers(SAM, str(folder / "teacher.pth"), TINY_VIT, pictures=0, **settings)
        found.rule = rule
        for scenes in loader():
            found.test_step(SceneBatch(scenes.index, images(scenes.images), scenes.sizes, scenes.scenes), 0)
        return found

    return run


def loader():
    data = PromptableData(test=ShapeScenes("test", 4, 64), image_size=64)
    data.trainer = type("Trainer", (), {"global_rank": 0, "world_size": 1})()
    return data.test_dataloader()[0]


@torch.no_grad()
def test_the_metrics_sanity_table(measured):
    """Agreement with the teacher: a perfect answer 1, none at all 0, everything the masks' share of the image."""
    perfect, empty, full, inverse = (
        measured(rule) for rule in (None, torch.zeros_like, torch.ones_like, torch.logical_not)
    )
    for kind in perfect.to_teacher:
        assert perfect.to_teacher[kind].compute() == 1
        share = full.to_teacher[kind].compute()
        assert empty.to_teacher[kind].compute() == inverse.to_teacher[kind].compute() == 0 and 0 < share < 1
        assert full.to_truth[kind].compute() < 0.2  # an object's share of the image
    random = measured(student_weights=None).to_teacher["point"].compute()
    assert random < 1
    assert perfect.to_truth["point"].compute() < 0.5  # a teacher of random weights knows no object


@torch.no_grad()
def test_metrics_do_not_see_confidence(measured, folder):
    """Only the sign of a logit counts: a decoder that is ten times as sure has the same masks."""
    plain, sure = measured(), measured()
    state = plain.model.mask_decoder.state_dict()
    assert all(torch.equal(value, sure.model.mask_decoder.state_dict()[key]) for key, value in state.items())
    for head in sure.model.mask_decoder.output_hypernetworks_mlps:
        head.layers[-1].weight.data *= 10
        head.layers[-1].bias.data *= 10
    for scenes in loader():
        sure.test_step(scenes, 0)
    assert all(metric.compute() == 1 for metric in sure.to_teacher.values())


@torch.no_grad()
def test_networks_receive_normalised_images(measured):
    """What SAM was trained on: mean about 0, deviation about 1, never the raw 0 to 255 or 0 to 1; padding of zeros."""
    seen = []
    measured(images=lambda x: seen.append(x) or x)
    pixels = torch.cat(seen)
    assert pixels.shape[1:] == (3, 64, 64) and pixels.min() > -2.2 and pixels.max() < 2.7
    assert abs(pixels.mean()) < 1.5 and 0.3 < pixels.std() < 1.5 and pixels.min() < -0.3 < 0.3 < pixels.max()


@torch.no_grad()
def test_validation_images_count_for_the_premise_only(measured):
    found = measured()
    before = {kind: int(metric.count) for kind, metric in found.to_teacher.items()}
    for scenes in loader():
        found.test_step(scenes, 0, dataloader_idx=1)
    assert {kind: int(metric.count) for kind, metric in found.to_teacher.items()} == before
    assert found.validation.count == before["point"] and found.validation.compute() == 1
