"""Slimming modules in closed form; networks of the published sizes; what a measure of them says."""

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import UserError
from projects.sit.backbone import Net, as_vit, build, grow
from projects.sit.evaluate import costs
from projects.sit.harness.pictures import of_tokens
from projects.sit.losses import Weights, frd_loss, token_loss
from projects.sit.model import (
    HardSlimming,
    Pooling,
    ReverseSlimming,
    Seen,
    Slimming,
    SlimViT,
    TokenSlimming,
    TopSlimming,
    from_official,
    recovered,
    reverse_modules,
)
from projects.sit.recipe import LARGE, LATE, LAYOUTS, MEDIUM, TINY, soft

SMALL = Net(classes=5, image_size=24, patch=4, dim=16, depth=4, heads=2, stem="patch")
PUBLISHED = {
    # sizes, slimming, parameters without RTSM but with the auxiliary head, of RTSM, of TSM; modules of RTSM; GFLOPs
    "tiny": (TINY, {"after": [1, 2, 3]}, 15_872_934, 14_015_176, 183_534, 14, (1.0, 3.5)),
    "xsmall": ({}, {"after": [1, 2, 3]}, 25_625_774, 21_782_640, 257_070, 16, (1.5, 5.5)),
    "small": ({}, {"after": [9, 12, 14]}, 25_625_774, 11_065_760, 257_070, 8, (4.0, 5.5)),
    "medium": (MEDIUM, LATE, 55_642_302, 25_318_284, 441_006, 11, (8.1, 11.9)),
    "large": (LARGE, LATE, 148_168_398, 78_774_876, 999_454, 15, (34.4, 56.1)),
}


@pytest.fixture
def tokens():
    return torch.randn(3, 36, 16, generator=torch.Generator().manual_seed(1))


def count(module):
    return sum(p.numel() for p in module.parameters())


def drawn(module):
    """With weights that matter: those of a new module hardly differ from token to token."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_merged_tokens_are_weighted_means_whatever_the_order(tokens):
    module = drawn(TokenSlimming(16, 5))
    weights = module.weights(tokens)
    assert weights.shape == (3, 5, 36) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 5))
    torch.testing.assert_close(module(tokens[:, torch.randperm(36)]), module(tokens), atol=1e-5, rtol=1e-4)
    constant = tokens[:, :1].expand(-1, 36, -1)
    torch.testing.assert_close(module(constant), constant[:, :5], atol=1e-5, rtol=1e-4)
    nn.init.zeros_(module.scale)
    torch.testing.assert_close(module(tokens), tokens.mean(1, keepdim=True).expand(-1, 5, -1), atol=1e-5, rtol=1e-4)


def test_modules_have_as_many_parameters_as_their_formulas_say():
    dim, kept, every, hidden = 24, 6, 16, 12
    assert count(TokenSlimming(dim, kept)) == 2 * dim + dim * hidden + hidden + hidden * kept + kept + 1
    mixing = 4 * every * kept + 4 * every + 4 * every * every + every
    assert count(ReverseSlimming(dim, kept, every)) == 4 * dim + mixing + 8 * dim * dim + 5 * dim


def test_dropping_keeps_tokens_as_they_are_in_their_order(tokens):
    torch.manual_seed(0)
    module = HardSlimming(7)
    found = module(tokens)
    places = (found[:, :, None] == tokens[:, None]).all(-1).int().argmax(-1)
    assert (places.diff(dim=1) > 0).all() and (found == tokens.gather(1, places[..., None].expand(-1, -1, 16))).all()
    taken = torch.stack([module.weights(tokens).sum(1) for _ in range(300)]).mean((0, 1))
    assert taken.min() > 0.1 and taken.max() < 0.3, "every token as often: 7 of 36"


def test_the_class_token_keeps_what_it_attends_to_most():
    student = SlimViT(build(SMALL), Slimming([2], kept=[9], kind="topk")).eval()
    images = torch.randn(2, 3, 24, 24)
    seen = []
    attention = student.vit.blocks[1].attn
    attention.fused_attn = False
    attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    mixing = []
    kept = student.see(images, mixing).tokens[1]
    by_hand = seen[0].mean(1)[:, 0, 1:].topk(9).indices.sort(1).values
    assert isinstance(student.tsm[0], TopSlimming) and kept.shape == (2, 9, 16)
    assert torch.equal(mixing[0].argmax(-1), by_hand)
    assert count(student) == count(build(SMALL))


def test_pictures_show_the_tokens_that_were_used():
    student = SlimViT(build(SMALL), Slimming([2, 3], kept=[9, 4], kind="random")).eval()
    mixing, before = [], []
    for block in student.vit.blocks[1:3]:
        block.register_forward_hook(lambda module, inputs, output: before.append(output[:, 1:]))
    seen = student.see(torch.randn(2, 3, 24, 24), mixing)
    for weights, whole, left in zip(mixing, before, seen.tokens[1:3], strict=True):
        torch.testing.assert_close(weights @ whole, left)


def test_costs_are_counted_for_any_plain_vision_transformer():
    with torch.device("meta"):
        for name in ("vit_small_r26_s32_224", "deit_tiny_distilled_patch16_224"):
            vit = build(Net(name)).eval()
            whole, slim = (costs(SlimViT(vit, slimming))["macs"] for slimming in (None, Slimming([5, 7, 9])))
            assert 1.1 < whole / slim < 1.9


def test_pooling_takes_means_of_neighbours(tokens):
    module = Pooling(9)
    torch.testing.assert_close(module(tokens), tokens.reshape(3, 9, 4, 16).mean(2))
    torch.testing.assert_close(module.weights(tokens) @ tokens, module(tokens))
    assert Pooling(10)(tokens).shape == (3, 10, 16)


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size):
    sizes, layout, parameters, reverse, slimming, modules, (after, before) = PUBLISHED[size]
    net = Net(**sizes)
    with torch.device("meta"):
        vit = build(net).eval()
        student, whole = SlimViT(vit, Slimming(**layout)), SlimViT(vit, None)
        found = reverse_modules(student)
        auxiliary = (net.dim + 1) * net.classes
        assert count(student) + auxiliary == parameters and count(student.tsm) == slimming
        assert count(found) == reverse and sum(not isinstance(m, nn.Identity) for m in found) == modules
        assert costs(student)["macs"] / 1000 == pytest.approx(after, abs=0.09)
        assert costs(whole)["macs"] / 1000 == pytest.approx(before, abs=0.15)
    assert [student.all, *dict.fromkeys(student.counts[student.after[0] - 1 :])] == (
        [324, 162, 81, 40] if size == "large" else [196, 98, 49, 24]
    )


def test_dropping_and_pooling_cost_as_much_as_token_slimming():
    small = {"classes": 10, "patch": 4, "depth": 4, "heads": 4, "stem": "patch", "mlp_ratio": 2.0, "skip": 1.0}
    mini, cifar = Net(**small, image_size=24, dim=32), Net(**small, image_size=32, dim=64)
    for scale, net in (("mini", mini), ("cifar10", cifar), ("paper", Net())):
        with torch.device("meta"):
            vit = build(net).eval()
            for kind, layout in LAYOUTS[scale].items():
                merged = costs(SlimViT(vit, Slimming(**soft(layout))))
                hard = costs(SlimViT(vit, Slimming(layout["after"], kept=layout["hard"], kind="random")))
                assert 1 <= hard["macs"] / merged["macs"] < 1.03, (scale, kind)
                assert hard["tokens"] > merged["tokens"]


def test_a_network_that_keeps_all_tokens_is_its_teacher():
    whole, student = SlimViT(build(SMALL), None).eval(), SlimViT(build(SMALL), None).eval()
    grow(student.vit, whole.vit)
    images = torch.randn(2, 3, 24, 24)
    mine, theirs = student.see(images), whole.see(images)
    torch.testing.assert_close(mine.logits, whole.vit(images))
    terms = frd_loss(mine, torch.tensor([0, 1]), theirs, Weights())
    assert terms.token.item() == 0 and terms.logits.item() == pytest.approx(0, abs=1e-6)
    assert all(isinstance(module, nn.Identity) for module in reverse_modules(student))


def test_a_second_token_begins_beside_what_the_teacher_knows():
    net = Net(**(vars(SMALL) | {"distilled": True}))
    student, teacher = build(net), build(SMALL)
    kept = student.head_dist.weight.clone()
    grow(student, teacher)
    assert torch.equal(student.head_dist.weight, kept) and torch.equal(student.head.weight, teacher.head.weight)
    assert torch.equal(student.pos_embed[:, [0, *range(2, 38)]], teacher.pos_embed)
    seen = SlimViT(student, Slimming([1], 0.25)).eval().see(torch.randn(2, 3, 24, 24))
    assert seen.hard.shape == (2, 5) and seen.tokens[0].shape == (2, 9, 16)


def test_terms_of_the_loss_in_closed_form():
    torch.manual_seed(0)
    logits, target, hard = torch.randn(3, 4, 5)
    tokens, wanted = torch.randn(2, 3, 4, 6, 8)
    labels, other = torch.tensor([0, 1, 2, 3]), torch.randn(4, 5)
    weights = Weights(token=3.0, logits=0.5, hard=2.0, temperature=2.0)
    terms = frd_loss(Seen(logits, hard, list(tokens)), labels, Seen(target, None, list(wanted)), weights, 0.1, other)
    eased = [(answer / 2).log_softmax(1) for answer in (logits, target)]
    kl = nn.functional.kl_div(*eased, reduction="batchmean", log_target=True)
    torch.testing.assert_close(terms.logits, 0.5 * 4 * kl)
    torch.testing.assert_close(terms.token, 3 * (tokens - wanted).square().mean())
    torch.testing.assert_close(terms.hard, 2 * nn.functional.cross_entropy(hard, other.argmax(1)))
    torch.testing.assert_close(terms.classes, nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))
    torch.testing.assert_close(terms.total, terms.classes + terms.token + terms.logits + terms.hard)
    torch.testing.assert_close(token_loss(tokens[:1], wanted[:1]), (tokens[0] - wanted[0]).square().mean())


def test_official_files_are_read_without_what_only_trains():
    student = SlimViT(build(SMALL), Slimming([1], 0.5))
    state = {name.removeprefix("vit."): value for name, value in student.state_dict().items()}
    state |= {"rtsm.0.norm1.weight": torch.ones(3), "aux_head.bias": torch.ones(5)}
    assert from_official(state).keys() == student.state_dict().keys()
    assert from_official(student.state_dict()).keys() == student.state_dict().keys()


def test_pictures_show_what_is_left():
    first, second = torch.zeros(1, 2, 36), torch.zeros(1, 1, 2)
    first[0, 0, 7] = first[0, 1, 35] = second[0, 0, 0] = 1
    drawn = of_tokens(torch.ones(1, 3, 24, 24), [first, second], (6, 6))
    lit = drawn[98:194, :96].astype(float).mean(-1)
    brightest = lit.reshape(6, 16, 6, 16).mean((1, 3))
    assert brightest.argmax() == 7 and (brightest > 1.5 * np.median(brightest)).sum() == 1


def test_what_cannot_be_slimmed_is_one_sentence():
    for given, said in (
        (Slimming([5], 0.5), "blocks from 1 to 4"),
        (Slimming([2, 1], 0.5), "in order"),
        (Slimming([], 0.5), "blocks"),
        (Slimming([1, 2], 0.1), "below 1"),
        (Slimming([1, 2], kept=[9]), "a number for each"),
        (Slimming([1, 2], kept=[9, 10]), "larger"),
    ):
        with pytest.raises(UserError, match=said):
            SlimViT(build(SMALL), given)
    with pytest.raises(UserError, match="no plain vision transformer"):
        as_vit(nn.Linear(1, 1))
    with pytest.raises(UserError, match="timm model 'deit_smal_patch16_224'"):
        build(Net("deit_smal_patch16_224"))
    with pytest.raises(UserError, match="no weights on the hub"):
        build(SMALL, pretrained=True)
    for wrong in ({"dim": 17}, {"image_size": 25}, {"stem": "conv4"}, {"name": "test_vit", "distilled": True}):
        with pytest.raises(UserError, match="net"):
            Net(**(vars(SMALL) | wrong))
    assert recovered([], nn.ModuleList()) == []
