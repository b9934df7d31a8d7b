"""The foundation `mobile_sam`: what is trained, what is copied, and that its weights are read as mobile_sam.pt is."""

import pytest
import torch
from safetensors.torch import save_model
from torch.nn import functional as F

from common.errors import UserError
from common.foundations.mobile_sam import MobileSamTraining
from common.models.sam import build_sam
from common.models.tiny_vit import TinyViT, load_mobile_sam
from tests.projects.mobilesam_small import SAM, TINY_VIT


@pytest.fixture
def training(tmp_path):
    torch.manual_seed(0)
    save_model(build_sam(SAM), str(tmp_path / "sam.safetensors"))
    return MobileSamTraining(SAM, TINY_VIT, str(tmp_path / "sam.safetensors"))


def test_the_encoder_regresses_the_teacher_and_nothing_else_moves(training):
    training.log = lambda *_, **__: None
    images = torch.randn(2, 3, 64, 64)
    loss = training.training_step({"image": images}, 0)
    embeddings = training.student.image_encoder(images), training.teacher.image_encoder(images)
    torch.testing.assert_close(loss, F.mse_loss(*embeddings))
    loss.backward()
    moved = {name.split(".")[0] for name, p in training.student.named_parameters() if p.grad is not None}
    assert moved == {"image_encoder"}
    assert not any(p.requires_grad for p in training.teacher.parameters())


def test_the_decoder_is_the_teacher_s_and_the_file_is_mobile_sam_s(training, tmp_path):
    save_model(training.exported(), str(tmp_path / "weights.safetensors"))
    loaded = load_mobile_sam(build_sam(SAM, TinyViT(TINY_VIT)), tmp_path / "weights.safetensors").state_dict()
    for name, value in training.teacher.state_dict().items():
        if not name.startswith("image_encoder."):
            assert torch.equal(loaded[name], value), name


def test_weights_of_another_model_are_refused(tmp_path):
    save_model(build_sam(SAM, TinyViT(TINY_VIT)), str(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match="does not fit Sam"):
        MobileSamTraining(SAM, TINY_VIT, str(tmp_path / "other.safetensors"))
