"""Teacher and student in one U-Net: equal at first, what learns, closed forms of the target, merging, counts."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional as F

from common.errors import UserError
from common.models.lora import Lora, trained_part
from projects.lora_distill.harness.plan import UNET
from projects.lora_distill.memory import Costs
from projects.lora_distill.model import Pair, distillation_loss, load_student
from tests.projects.lora_distill_small import CAPTIONS, model

LORA = Lora(4, gaussian=True)


def inputs(t2i):
    torch.manual_seed(1)
    with torch.no_grad():
        return (
            torch.randn(3, 3, 8, 8),
            torch.tensor([3, 500, 900]),
            t2i.encode_text(CAPTIONS[:3]),
            t2i.encode_text([""]),
        )


def disturb(pair):
    with torch.no_grad():
        for parameter in trained_part(pair.student).parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("lora", [LORA, None])
def test_the_student_starts_as_the_unguided_teacher_bit_for_bit(lora):
    t2i = model()
    noisy, t, context, empty = inputs(t2i)
    with torch.no_grad():
        plain = t2i.unet(noisy, t, context).sample
        pair = Pair(t2i.unet, lora)
        assert torch.equal(pair.student(noisy, t, context).sample, plain)
        with pair.teacher() as teacher:
            assert torch.equal(teacher(noisy, t, context).sample, plain)
        disturb(pair)
        assert not torch.allclose(pair.student(noisy, t, context).sample, plain, atol=1e-4)
        with pair.teacher() as teacher:
            assert torch.equal(teacher(noisy, t, context).sample, plain)  # unchanged by what the student learned


@pytest.mark.parametrize("lora", [LORA, None])
def test_the_target_is_the_guided_pair_s(lora):
    t2i = model()
    noisy, t, context, empty = inputs(t2i)
    with torch.no_grad():
        conditional = t2i.unet(noisy, t, context).sample
        unconditional = t2i.unet(noisy, t, empty.expand_as(context)).sample
    pair = Pair(t2i.unet, lora)
    disturb(pair)
    for scale in (0.0, 1.0, 7.5):
        found = pair.guided(noisy, t, context, empty, scale)
        torch.testing.assert_close(found, unconditional + scale * (conditional - unconditional), atol=1e-5, rtol=1e-5)
        assert not found.requires_grad
    torch.testing.assert_close(pair.guided(noisy, t, context, empty, 1.0), conditional, atol=1e-5, rtol=1e-5)


def test_without_guidance_there_is_nothing_to_learn_at_first():
    t2i = model()
    noisy, t, context, empty = inputs(t2i)
    pair = Pair(t2i.unet, LORA)
    loss = distillation_loss(pair.student(noisy, t, context).sample, pair.guided(noisy, t, context, empty, 1.0))
    assert loss < 1e-10
    more = distillation_loss(pair.student(noisy, t, context).sample, pair.guided(noisy, t, context, empty, 3.0))
    assert more > 1e-6


def test_the_loss_is_a_mean_square_of_everything():
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(distillation_loss(a, b), F.mse_loss(a, b))


def test_updates_alone_learn_and_only_b_at_the_first_step():
    t2i = model()
    noisy, t, context, empty = inputs(t2i)
    pair = Pair(t2i.unet, LORA)
    target = pair.guided(noisy, t, context, empty, 7.5)
    distillation_loss(pair.student(noisy, t, context).sample, target).backward()
    gradients = {name: p.grad for name, p in pair.named_parameters() if p.grad is not None}
    assert gradients and all("lora_" in name for name in gradients)
    assert all(bool(value.abs().sum() > 0) == ("lora_B" in name) for name, value in gradients.items())
    wanted = {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v"}
    assert all(any(part in name for name in gradients) for part in wanted)


def test_a_full_student_learns_all_and_its_teacher_nothing():
    t2i = model()
    noisy, t, context, empty = inputs(t2i)
    pair = Pair(t2i.unet, None)
    distillation_loss(pair.student(noisy, t, context).sample, pair.guided(noisy, t, context, empty, 7.5)).backward()
    assert all(p.grad is not None for p in pair.student.parameters())
    assert all(p.grad is None and not p.requires_grad for p in pair.frozen.parameters())


@pytest.mark.parametrize("lora", [LORA, Lora(2, gaussian=True, targets=("to_q", "ff.net.2")), None])
def test_a_student_read_back_from_its_file_is_merged_and_the_same(lora, tmp_path):
    t2i = model()
    noisy, t, context, _ = inputs(t2i)
    pair = Pair(t2i.unet, lora)
    disturb(pair)
    with torch.no_grad():
        expected = pair.student(noisy, t, context).sample
        found = load_student(model().unet, lora, trained_part(pair.student).state_dict())
        torch.testing.assert_close(found(noisy, t, context).sample, expected, atol=1e-5, rtol=1e-5)
    assert type(found) is UNet2DConditionModel and found.state_dict().keys() == model().unet.state_dict().keys()
    assert not any(p.requires_grad for p in found.parameters())


def test_weights_of_another_student_are_refused():
    state = trained_part(Pair(model().unet, Lora(2)).student).state_dict()
    with pytest.raises(UserError):
        load_student(model().unet, LORA, state)


def test_the_real_u_net_has_the_numbers_of_the_paper():
    """Stable Diffusion 2.1: 32 attention layers; and 1.5, whose contexts are narrower."""
    with torch.device("meta"):
        pair = Pair(UNet2DConditionModel(**UNET), LORA)
        older = Pair(UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8), LORA)
    count = {
        name: sum(p.numel() for p in found.parameters() if p.requires_grad)
        for name, found in {"2.1": pair, "1.5": older}.items()
    }
    assert count == {"2.1": 829_952, "1.5": 797_184}
    assert sum(p.numel() for p in pair.parameters() if not p.requires_grad) == 865_910_724


def test_costs_of_a_small_u_net_follow_from_its_parameters():
    sizes = {
        "sample_size": 8, "down_block_types": ["CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D"],
        "block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 6,
        "attention_head_dim": 2,
    }  # fmt: skip
    numbers = sum(p.numel() for p in UNet2DConditionModel(**sizes).parameters())
    full = Costs(sizes, None, tokens=5).counted()
    alone = Costs(sizes, None, "finetuning", tokens=5).counted()
    lora = Costs(sizes, LORA, tokens=5).counted()
    assert full["trained"] == alone["trained"] == numbers
    assert full["held"] * 1e9 == pytest.approx(20 * numbers) and alone["held"] * 1e9 == pytest.approx(16 * numbers)
    assert lora["held"] * 1e9 == pytest.approx(4 * numbers + 16 * lora["trained"])
    assert full["saved"] == alone["saved"] > 0  # the teacher keeps nothing
    assert full["memory"] == full["held"] + full["saved"]
    assert lora["gmacs_two"] == 2 * lora["gmacs_one"] == full["gmacs_two"] > 0
