"""Text classifiers: families, token types that grow, heads with one answer and with several."""

import math

import pytest
import torch
from torch.nn import functional as F

from common.errors import UserError
from common.models.text_classifier import (
    ClassifierConfig,
    build_classifier,
    grow_token_types,
    head_loss,
    logits,
    probabilities,
)
from common.rehearsal.text_models import roberta


def batch():
    ids = torch.tensor([[2, 7, 8, 3, 9, 3], [2, 7, 3, 9, 3, 0]])
    types = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]])
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": (ids > 0).long(), "labels": torch.zeros(2)}


def built(**config):
    torch.manual_seed(0)
    return build_classifier(ClassifierConfig(hidden=16, layers=1, heads=2, **config), 3, 20).eval()


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt_neo"])
def test_a_family_gives_logits_of_every_class(family):
    net = built(family=family)
    assert logits(net, batch()).shape == (2, 3) and net.config.num_labels == 3


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_token_types_are_told_apart_unless_their_rows_are_equal(family):
    net, given = built(family=family, token_types=2), batch()
    other = given | {"token_type_ids": torch.zeros_like(given["token_type_ids"])}
    assert not torch.allclose(logits(net, given), logits(net, other))
    rows = net.base_model.embeddings.token_type_embeddings.weight
    with torch.no_grad():
        swapped = rows.flip(0).clone()
        before = logits(net, given)
        rows.copy_(swapped)
        assert not torch.allclose(logits(net, given), before)
        rows[1] = rows[0]
    assert torch.allclose(logits(net, given), logits(net, other))


def test_an_encoder_with_one_token_type_grows_another_that_begins_as_its_copy(tmp_path):
    roberta(tmp_path, layers=1)
    config = ClassifierConfig(pretrained=str(tmp_path), token_types=2)
    net, given = build_classifier(config, 3, 0).eval(), batch()
    assert net.config.type_vocab_size == 2
    assert net.base_model.embeddings.token_type_embeddings.weight.requires_grad
    zeros = given | {"token_type_ids": torch.zeros_like(given["token_type_ids"])}
    assert torch.equal(logits(net, given), logits(net, zeros))
    logits(net, given).sum().backward()
    assert net.base_model.embeddings.token_type_embeddings.weight.grad.abs().sum(1).gt(0).all()
    net.save_pretrained(tmp_path / "saved")
    again = build_classifier(ClassifierConfig(pretrained=str(tmp_path / "saved"), token_types=2), 3, 0, load=False)
    again.load_state_dict(net.state_dict())  # a config with two rows, weights with two rows
    plain = build_classifier(ClassifierConfig(pretrained=str(tmp_path)), 3, 0)
    assert plain.config.type_vocab_size == 1 and logits(plain.eval(), given).shape == (2, 3)


def test_what_has_no_token_types_is_refused_them():
    with pytest.raises(UserError, match="tells no kinds of tokens apart"):
        built(family="gpt_neo", token_types=2)
    with pytest.raises(UserError, match="tells no kinds of tokens apart"):
        grow_token_types(built(family="gpt_neo"), 2)
    with pytest.raises(UserError, match="the encoder has 2"):
        grow_token_types(built(), 1)


def test_the_loss_of_several_classes_is_the_mean_over_batch_and_classes():
    z = torch.zeros(4, 5, requires_grad=True)
    targets = torch.rand(4, 5)
    assert head_loss(z, targets).item() == pytest.approx(math.log(2))
    z = torch.randn(4, 5, requires_grad=True)
    head_loss(z, targets).backward()
    assert torch.allclose(z.grad, (z.sigmoid() - targets) / 20, atol=1e-7)
    labels = torch.tensor([0, 1, 2, 4])
    assert torch.equal(head_loss(z, labels), F.cross_entropy(z, labels))


def test_probabilities_of_several_classes_are_each_by_itself():
    z = torch.randn(4, 5)
    assert torch.allclose(probabilities(z, several=False).sum(1), torch.ones(4))
    assert torch.allclose(probabilities(z, several=True), 1 / (1 + torch.exp(-z)))
