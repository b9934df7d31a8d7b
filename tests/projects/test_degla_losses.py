"""DeGLA's losses: closed forms, what depends on what, and the golden vectors of the official code."""

import math

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from common.training.ema import Ema
from projects.degla.losses import (
    Embedded,
    global_contrast,
    image_grounded,
    intra_modal,
    ranking,
    self_distillation,
    text_grounded,
)
from tests.distributed import assert_data_parallel
from tests.golden import golden_file

B, K, D = 5, 3, 8


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, D, generator=torch.Generator().manual_seed(seed)), dim=-1)


def batch(seed=0, grad=False):
    made = Embedded(unit(B, seed=seed), unit(B, seed=seed + 100), unit(B, K, seed=seed + 200))
    for part in (made.image, made.text, made.negatives):
        part.requires_grad_(grad)
    return made


def test_a_student_like_its_teacher_has_nothing_to_distil_and_a_positive_logit_of_the_scale():
    found = batch()
    assert self_distillation(found, found) == 0
    alone = Embedded(found.image, found.text, -found.text[:, None].expand(-1, K, -1))  # logits of -10
    torch.testing.assert_close(
        text_grounded(alone, found.text), torch.tensor(-10 + math.log(math.exp(10) + K * math.exp(-10)))
    )


def test_negatives_like_the_caption_leave_chance():
    found = batch()
    same = Embedded(found.image, found.text, found.text[:, None].expand(-1, K, -1))
    for loss in (image_grounded(same, 20.0), text_grounded(same, found.text)):
        torch.testing.assert_close(loss, torch.tensor(math.log(K + 1)))


def test_what_a_batch_twice_over_changes():
    found, teacher = batch(), batch(seed=7)

    def twice(one):
        return Embedded(*(torch.cat([x, x]) for x in (one.image, one.text, one.negatives)))

    more = twice(found)
    torch.testing.assert_close(self_distillation(more, twice(teacher)), 2 * self_distillation(found, teacher))
    torch.testing.assert_close(image_grounded(more, 10.0), image_grounded(found, 10.0))
    assert global_contrast(more, 10.0) > global_contrast(found, 10.0) + 0.1


@pytest.mark.parametrize(
    "loss, looks_at_others",
    [
        (lambda x: image_grounded(x, 10.0), False),
        (lambda x: text_grounded(x, unit(B, seed=9)), False),
        (lambda x: intra_modal(x, 10.0), False),
        (lambda x: text_grounded(x, unit(B, seed=9), released=True), True),
        (lambda x: global_contrast(x, 10.0), True),
    ],
    ids=["igc", "tgc", "imc", "tgc released", "base"],
)
def test_local_losses_look_at_their_own_and_global_ones_at_all(loss, looks_at_others):
    """What the first sample's negatives are told, before and after the other samples' pictures and captions change."""
    found, other = batch(grad=True), batch(grad=True)
    loss(found).backward()
    mirrored = Embedded(
        torch.cat([other.image[:1], -other.image[1:]]), torch.cat([other.text[:1], -other.text[1:]]), other.negatives
    )
    loss(mirrored).backward()
    assert torch.allclose(found.negatives.grad[0], other.negatives.grad[0], atol=1e-6) != looks_at_others


def test_gradients_go_where_they_should():
    found, teacher = batch(grad=True), batch(seed=3, grad=True)
    text_grounded(found, teacher.text).backward()
    assert found.image.grad is None and found.text.grad.abs().sum() > 0 and found.negatives.grad.abs().sum() > 0
    self_distillation(found, teacher).backward()
    assert teacher.text.grad is None and teacher.image.grad is None and found.image.grad.abs().sum() > 0


def test_ranking_wants_the_gap_of_the_batch_before():
    found = batch()
    loss, gap = ranking(found, 10.0, torch.zeros(K))
    expected = 10 * ((found.image * found.text).sum(-1)[:, None] - (found.image[:, None] * found.negatives).sum(-1))
    torch.testing.assert_close(gap, expected.mean(0))
    torch.testing.assert_close(loss, F.relu(-expected).mean())
    wanted, _ = ranking(found, 10.0, torch.full((K,), 50.0))
    torch.testing.assert_close(wanted, 50 - expected.mean())


def test_intra_modal_contrast_pushes_captions_from_their_negatives():
    found = batch(grad=True)
    intra_modal(found, 5.0).backward()
    step = found.negatives - found.negatives.grad
    assert ((found.text[:, None] * step).sum(-1) < (found.text[:, None] * found.negatives).sum(-1)).all()


def _step(module, image, text, negatives):
    """All losses of a batch that goes through one layer; the teacher is the batch itself."""
    teacher = Embedded(image, text, negatives).gathered()
    found = Embedded(*(F.normalize(module(x), dim=-1) for x in (image, text, negatives))).gathered()
    ranked, _ = ranking(found, 10.0, torch.full((K,), 3.0))
    terms = [global_contrast(found, 10.0), self_distillation(found, teacher), image_grounded(found, 10.0)]
    return sum(terms) + ranked + text_grounded(found, teacher.text) + intra_modal(found, 10.0)


def test_two_processes_have_the_loss_and_gradient_of_one():
    whole = batch()
    assert_data_parallel(_step, nn.Linear(D, D), whole.image[:4], whole.text[:4], whole.negatives[:4])


# the official code


@pytest.fixture(scope="module")
def golden():
    """(tensors by name, metadata)."""
    file = golden_file("degla")
    if not file.exists():
        pytest.skip(f"no golden vectors at {file}; set GOLDEN_ROOT")
    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


def split(image, text):
    """The golden rows: captions, then the negatives sample by sample."""
    return Embedded(image, text[: len(image)], text[len(image) :].view(len(image), -1, text.shape[1]))


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_golden_released_total(golden):
    tensors, said = golden
    case = {
        name.removeprefix("released_total/"): x for name, x in tensors.items() if name.startswith("released_total/")
    }
    hp = {name.removeprefix("released_total/hp."): value for name, value in said.items()}
    image, text = (case[f"in.{name}"].clone().requires_grad_() for name in ("image", "text"))
    found, teacher = split(image, text), split(case["in.teacher_image"], case["in.teacher_text"])
    assert found.negatives.shape[1] == int(hp["num_negatives"])
    scale = case["in.logit_scale"]
    terms = {
        "base": global_contrast(found, scale),
        "igc": image_grounded(found, scale),
        "tgc_released": text_grounded(found, teacher.text, float(hp["tgc_scale"]), released=True),
        "distill": self_distillation(found, teacher),
    }
    for name, value in terms.items():
        close(value, case[f"out.{name}"])
    weights = {"base": 1.0, "igc": float(hp["weight_igc"]), "tgc_released": float(hp["weight_tgc"])}
    weights["distill"] = float(hp["weight_distill"])
    total = sum(weights[name] * value for name, value in terms.items())
    close(total, case["out.total"])
    total.backward()
    close(image.grad, case["out.grad_image"])
    close(text.grad, case["out.grad_text"])


def test_golden_intended_text_grounded_contrast(golden):
    tensors, said = golden
    text, teacher = tensors["tgc_intended/in.text"], tensors["tgc_intended/in.teacher_text_pos"]
    found = split(teacher, text)  # pictures play no part
    assert found.negatives.shape[1] == int(said["tgc_intended/hp.num_negatives"])
    close(text_grounded(found, teacher, float(said["tgc_intended/hp.tgc_scale"])), tensors["tgc_intended/out.loss"])
    assert abs(text_grounded(found, teacher, released=True) - tensors["tgc_intended/out.loss"]) > 1e-3


def test_golden_three_steps_of_the_teacher(golden):
    case = {n.removeprefix("ema_three_updates/"): x for n, x in golden[0].items() if n.startswith("ema_three_updates/")}
    student, start = nn.Linear(*case["in.student_weight"].T.shape), nn.Linear(*case["in.teacher_weight"].T.shape)
    for net, name in ((student, "student"), (start, "teacher")):
        net.load_state_dict({part: case[f"in.{name}_{part}"] for part in ("weight", "bias")})
    teacher = Ema(start, float(golden[1]["ema_three_updates/hp.alpha"]))
    for _ in range(3):
        teacher.update(student)
    close(teacher.model.weight.data, case["out.teacher_weight"])
    close(teacher.model.bias.data, case["out.teacher_bias"])
