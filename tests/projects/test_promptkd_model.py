"""PromptKD's model and losses: closed forms, what is trained, plain CLIP as a special case, the real student."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.errors import UserError
from common.models.clip import prompted_image
from projects.promptkd.losses import distillation_loss, epoch_weights, promptsrc_terms
from projects.promptkd.model import Projector, PromptedClip, Student
from projects.promptkd.schedule import Epochs, sgd
from tests.projects.promptkd_small import KINDS, SENTENCE, TEMPLATES, clip

PICTURES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def student(**settings):
    vectors = F.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(2)), dim=-1)
    return Student(clip(16, 8), vectors, **{"depth": 2, "count": 4, **settings})


def test_the_loss_is_the_mean_kl_over_pictures_times_weight_over_classes():
    torch.manual_seed(0)
    s, t = torch.randn(4, 7), torch.randn(4, 7)
    expected = F.kl_div(F.log_softmax(s, 1), F.softmax(t, 1), reduction="batchmean") * 1000 / 7
    torch.testing.assert_close(distillation_loss(s, t), expected)
    torch.testing.assert_close(distillation_loss(3 * s, 3 * t, 1000, 3), 9 * expected)
    assert distillation_loss(t, t).abs() < 1e-4


def test_the_teacher_s_logits_get_no_gradient():
    s, t = torch.randn(4, 7, requires_grad=True), torch.randn(4, 7, requires_grad=True)
    distillation_loss(s, t).backward()
    assert t.grad is None and s.grad.abs().sum() > 0


def test_consistency_is_nothing_where_prompts_change_nothing():
    images, vectors = (F.normalize(torch.randn(n, 6), dim=-1) for n in (4, 3))
    terms = promptsrc_terms(images, vectors, images, vectors, torch.tensor([0, 1, 2, 0]), torch.tensor(10.0))
    assert terms.text == 0 and terms.image == 0 and terms.logits.abs() < 1e-6
    torch.testing.assert_close(terms.total(25, 10), terms.labels + terms.logits)


def test_weights_of_epochs_are_a_normal_density():
    found = epoch_weights(20)
    assert found.argmax() == 14 and found.sum() == pytest.approx(1)
    assert float(found[15] / found[14]) == pytest.approx(float(torch.exp(torch.tensor(-0.5))))


def test_the_official_schedule():
    rates = [Epochs().rate(epoch, 20) for epoch in range(20)]
    assert rates[:2] == [1e-5, 0.005] and rates[11] == pytest.approx(0.0025)
    assert 0 < rates[-1] < 2e-4 and rates[1:] == sorted(rates[1:], reverse=True)
    for epochs, batches in ((12, 25), (3, 100), (48, 6)):  # the same rates, however many pictures an epoch has
        loader = SimpleNamespace(train_dataloader=lambda batches=batches: range(batches))
        trainer = SimpleNamespace(
            max_epochs=epochs, max_steps=-1, limit_train_batches=1.0, accumulate_grad_batches=1, datamodule=loader
        )
        found = sgd([nn.Parameter(torch.zeros(1))], Epochs(stretches=12), trainer)["lr_scheduler"]["scheduler"]
        steps = epochs * batches
        assert [found.lr_lambdas[0](steps * k // 12) for k in range(12)] == [Epochs().rate(k, 12) for k in range(12)]
        assert found.lr_lambdas[0](steps) == Epochs().rate(11, 12)


def test_prompts_and_projector_alone_are_trained():
    found = student()
    found.train()(PICTURES).sum().backward()
    for name, value in found.named_parameters():
        learned = name == "prompts" or name.startswith("projector")
        assert value.requires_grad == learned and (value.grad is not None) == learned, name
    assert found.prompts.grad.abs().sum() > 0 and not found.clip.net.visual.training
    assert not found.vectors.requires_grad


def test_the_whole_tower_is_trained_where_it_is_asked_for():
    found = student(depth=0, tower=True)
    found(PICTURES).sum().backward()
    trained = {name for name, value in found.named_parameters() if value.grad is not None}
    tower = {f"clip.net.visual.{name}" for name, _ in found.clip.net.visual.named_parameters()}
    assert trained == tower | {f"projector.{name}" for name, _ in found.projector.named_parameters()}


def test_without_prompts_and_projector_it_is_plain_clip():
    found = student(depth=0)
    found.projector = nn.Identity()
    torch.testing.assert_close(found.images(PICTURES), found.clip.images(PICTURES))


def test_more_prompts_are_seen_and_stay_after_their_last_block():
    net = clip().net
    prompts = torch.randn(2, 3, 32)
    plain, seen = net.visual(PICTURES), prompted_image(net.visual, PICTURES, prompts)
    assert (plain - seen).abs().max() > 1e-3
    assert (seen - prompted_image(net.visual, PICTURES, prompts[:1])).abs().max() > 1e-3


def test_prompts_that_begin_as_words_say_what_the_words_say():
    found = PromptedClip(clip(), SENTENCE, depth=1)
    torch.testing.assert_close(found.class_vectors(KINDS), found.clip.class_vectors(KINDS, [SENTENCE]))
    assert found.count == 4 and found.prompts.visual.shape == (1, 4, 32)
    assert all(not value.requires_grad for value in found.clip.parameters())


def test_a_text_tower_of_fewer_blocks_has_prompts_in_all_of_them():
    net = clip()
    net.net.transformer.resblocks = net.net.transformer.resblocks[:1]
    assert len(PromptedClip(net, SENTENCE, depth=2).prompts.text) == 0


@pytest.mark.parametrize("settings", [{}, {"depth": 0}, {"depth": 0, "tower": True}, {"layers": 3}, {"layers": 1}])
def test_what_is_kept_makes_the_same_student(settings):
    found = student(**settings)
    with torch.no_grad():
        for value in found.learned().parameters():
            value.add_(0.1 * torch.randn_like(value))
    state = copy.deepcopy(found.learned().state_dict())
    torch.testing.assert_close(Student.of(clip(16, 8), state)(PICTURES), found.eval()(PICTURES))


def test_the_real_student_learns_a_million_numbers():
    assert sum(p.numel() for p in Projector(512, 768).parameters()) == 393_984 + 1536 + 590_592
    assert 9 * 4 * 768 + 986_112 == 1_013_760


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="depth 3 do not fit an image tower of 2 blocks"):
        student(depth=3)
    with pytest.raises(UserError, match="words and then a name's place"):
        PromptedClip(clip(), "{} texture")
    with pytest.raises(UserError, match="these weights are no student"):
        Student.of(clip(), {"x": torch.zeros(1)})
    with pytest.raises(UserError, match="these weights are no prompts"):
        PromptedClip.of(clip(), {"x": torch.zeros(1)}, SENTENCE)
    assert TEMPLATES
