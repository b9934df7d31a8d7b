"""CLIP's likeness of pictures to captions and pictures: what the net is given, and the figures of known answers."""

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from common.errors import UserError
from common.evaluators.clip_score import CLIP_MEAN, CLIP_STD, Clip, ClipImage, ClipScore, ClipText, normalised
from common.evaluators.videos import ClipSimilarity
from common.rehearsal.vision_models import clip


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    clip(folder, patch=16, size=32, layers=1, text_layers=1)
    return Clip(str(folder))


def test_pictures_are_resized_and_normalised():
    grey = torch.full((2, 3, 10, 14), 0.5)
    found = normalised(grey, 8, CLIP_MEAN, CLIP_STD)
    assert found.shape == (2, 3, 8, 8)
    expected = (0.5 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand(2, -1, 8, 8))


def test_features_are_those_that_the_whole_model_gives(net):
    images, texts = torch.rand(3, 3, 32, 32), ["a", "red block", "a longer caption"]
    words = net.tokenizer(texts, padding=True, return_tensors="pt")
    whole = net.net(**words, pixel_values=normalised(images, 32, CLIP_MEAN, CLIP_STD))
    torch.testing.assert_close(net.images(images), whole.image_embeds)
    torch.testing.assert_close(net.texts(texts), whole.text_embeds)
    assert not net.images(images).requires_grad


def test_the_figures_of_known_cosines(net, monkeypatch):
    """Perfect, opposite and unrelated answers; batches of other sizes count by their pictures."""
    axes = torch.eye(3)
    monkeypatch.setattr(net, "images", lambda images: axes[: len(images)])
    monkeypatch.setattr(net, "texts", lambda texts: torch.stack([axes[0], -axes[1], axes[0]])[: len(texts)])
    score, likeness = ClipScore(net), ClipText(net)
    for count in (3, 1):
        for metric in (score, likeness):
            metric.update(torch.zeros(count, 3, 8, 8), ["x"] * count)
    assert score.compute() == pytest.approx(2.5 * (1 + 0 + 0 + 1) / 4)
    assert likeness.compute() == pytest.approx((1 - 1 + 0 + 1) / 4)


def test_a_picture_is_like_itself_and_less_like_another(net):
    images = torch.rand(4, 3, 40, 32)
    same, other = ClipImage(net), ClipImage(net)
    same.update(images, images)
    other.update(images, images.roll(1, 0))
    assert same.compute() == pytest.approx(1) and other.compute() < same.compute()


def test_a_video_is_the_mean_of_its_frames(net):
    measure = ClipSimilarity.__new__(ClipSimilarity)
    nn.Module.__init__(measure)
    measure.clip = net
    videos, captions = torch.rand(2, 3, 5, 32, 32), ["red", "block"]
    metric = ClipText(net)
    for frame in videos.unbind(2):
        metric.update(frame, captions)
    assert measure(videos, captions).mean() == pytest.approx(metric.compute().item(), abs=1e-6)


def test_a_missing_net_is_named(tmp_path):
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        Clip(str(tmp_path / "nothing"))


def test_the_frechet_distance_of_any_net():
    """Equal sets have none; a mean that is moved by d, one of d^2; the net receives what the distance is given."""

    class Means(nn.Module):
        num_features = 3

        def forward(self, pictures):
            seen.append((pictures.min().item(), pictures.max().item(), pictures.dtype))
            return pictures.mean((2, 3))

    seen: list[tuple[float, float, torch.dtype]] = []
    torch.manual_seed(0)
    pictures = 0.2 + 0.5 * torch.rand(200, 3, 4, 4)
    for moved, expected in ((0.0, 0.0), (0.1, 3 * 0.1**2)):
        metric = FrechetInceptionDistance(Means(), normalize=True)
        metric.update(pictures, real=True)
        metric.update(pictures + moved, real=False)
        assert metric.compute() == pytest.approx(expected, abs=1e-4)
    assert all(low >= 0.2 and high <= 0.81 and dtype == torch.float32 for low, high, dtype in seen)
