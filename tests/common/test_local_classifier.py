"""The classifier whose tokens know their own places: what its terms are, and what they teach."""

import pytest
import torch
from torch.nn import functional as F

from common.foundations.local_classifier import LocalClassification

VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def module(**settings) -> LocalClassification:
    torch.manual_seed(0)
    found = LocalClassification(VISION, classes=4, **settings)
    found.log_dict = lambda *_, **__: None
    return found


def batch() -> dict:
    """Pictures whose patches have one colour each."""
    colours = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return {"image": F.interpolate(colours, scale_factor=8), "label": torch.arange(8) % 4, "colours": colours}


def test_without_colours_it_is_the_plain_classifier():
    one, data = module(colour_weight=0.0), batch()
    torch.testing.assert_close(one.training_step(data, 0), F.cross_entropy(one(data["image"]), data["label"]))


def test_every_token_is_asked_for_the_colour_of_its_own_patch():
    one, data, seen = module(colour_weight=3.0), batch(), {}
    one.log_dict = seen.update
    tokens = one.net.model.vision_model((data["image"] - 0.5) / 0.5).last_hidden_state
    read = one.colours(tokens).transpose(1, 2).unflatten(2, (4, 4))  # row by row, as the pictures' patches
    one.training_step(data, 0)
    assert seen["train/colours"].item() == pytest.approx(3 * F.mse_loss(read, data["colours"]).item(), rel=1e-5)
    torch.testing.assert_close(seen["train/loss"], seen["train/classes"] + seen["train/colours"])


def test_colours_can_be_read_after_some_steps():
    one, data, seen = module(), batch(), []
    optimizer = torch.optim.AdamW(one.parameters(), lr=1e-2)
    one.log_dict = lambda terms: seen.append(terms["train/colours"].item())
    for step in range(40):
        optimizer.zero_grad()
        one.training_step(data, step).backward()
        optimizer.step()
    assert seen[-1] < 0.3 * seen[0]
    assert one.exported() is one.net  # the reading head stays behind
