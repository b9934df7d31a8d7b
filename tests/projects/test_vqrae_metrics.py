"""VQRAE's metrics, each with its table of sanity: perfect answers, floors, what it must not see, what its net sees."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from common.data.images import IMAGENET_MEAN, IMAGENET_STD
from common.data.worlds.shape_crops import ShapeCrops, colour_of
from common.data.worlds.shape_layout import CLASSES, COLOURS
from common.models.classifiers import convnext, vgg16
from projects.vqrae.metrics import CodebookUsage, ConvNextFeatures, QuantisationError, fid, mean_colour
from projects.vqrae.perceptual import LogitDistance, Lpips
from projects.vqrae.sample import judged
from projects.vqrae.understanding import LinearHead, probe


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Two hundred of the world's test pictures, [200, 3, 32, 32] in [0, 1]."""
    world = ShapeCrops("test", 200, plain=True)
    return torch.stack([torch.from_numpy(world[k].image) for k in range(200)]).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def judge() -> LogitDistance:
    torch.manual_seed(0)
    return LogitDistance(convnext((8, 8, 8, 8), (1, 1, 1, 1), len(CLASSES) * len(COLOURS)), 32)


def psnr(made: Tensor, images: Tensor) -> float:
    return PeakSignalNoiseRatio(1.0, dim=(1, 2, 3))(made, images).item()


def ssim(made: Tensor, images: Tensor) -> float:
    return StructuralSimilarityIndexMeasure(data_range=1.0)(made, images).item()


def test_psnr_from_the_floor_to_perfect(pictures):
    """The mean over pictures: of all the test pictures 18.04 dB in their own mean colour, 21.65 in one a patch."""
    noise = 0.1 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    assert psnr(torch.full_like(pictures, 0.5), pictures) < 15
    assert psnr(mean_colour(pictures), pictures) == pytest.approx(18.04, abs=0.4)
    assert psnr(mean_colour(pictures, 8), pictures) == pytest.approx(21.65, abs=0.4)
    assert psnr(pictures + noise, pictures) == pytest.approx(20, abs=0.1)  # 10 log10 of 1 / 0.1^2
    assert psnr(pictures, pictures) == float("inf")


def test_ssim_from_the_floor_to_perfect(pictures):
    values = [
        ssim(made, pictures)
        for made in (torch.rand_like(pictures), mean_colour(pictures), mean_colour(pictures, 8), pictures)
    ]
    assert values == sorted(values) and values[0] < 0.1 and values[-1] == pytest.approx(1, abs=1e-5)


def test_mean_colours():
    images = torch.rand(2, 3, 16, 16)
    whole, patches = mean_colour(images), mean_colour(images, 4)
    torch.testing.assert_close(whole, images.mean((2, 3), keepdim=True).expand_as(images))
    torch.testing.assert_close(
        patches[:, :, 4:8, 8:12], images[:, :, 4:8, 8:12].mean((2, 3), keepdim=True).expand(-1, -1, 4, 4)
    )
    assert torch.equal(mean_colour(images, 1), images)


def test_rfid_from_perfect_to_the_floor(pictures, judge):
    def distance(made: Tensor) -> float:
        measure = fid(judge, None)
        measure.update(pictures, real=True)
        measure.update(made, real=False)
        return measure.compute().item()

    found = [distance(made) for made in (pictures, pictures.flip(0), mean_colour(pictures, 8), mean_colour(pictures))]
    assert found[0] == pytest.approx(0, abs=1e-3) and found[1] == pytest.approx(0, abs=1e-3)  # the order does not count
    assert 10 * max(found[0], 1e-4) < found[2] < found[3]


def test_the_net_behind_rfid_receives_normalised_pictures(pictures, judge):
    """Black and white are as far apart as ImageNet's statistics put them; torchmetrics hands over uint8."""
    seen: list[Tensor] = []
    hook = judge.classifier.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    measure = fid(judge, None)
    measure.update(torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)]), real=True)
    ConvNextFeatures(judge)(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))
    hook.remove()
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(seen[0][0, :, 0, 0], -mean / std)
    torch.testing.assert_close(seen[0][1, :, 0, 0], (1 - mean) / std)
    torch.testing.assert_close(seen[1][0, :, 5, 5], (1 - mean) / std)


def test_lpips_from_perfect_to_the_floor(pictures):
    torch.manual_seed(0)
    lpips = Lpips(vgg16(width=4).features, learned_heads=False)
    few = pictures[:40]
    perfect, patches, floor = (lpips(made, few).mean() for made in (few, mean_colour(few, 8), mean_colour(few)))
    assert perfect == 0 < patches < floor <= 4


@pytest.mark.parametrize(
    ("counts", "usage", "perplexity"),
    [
        ([5, 5, 5, 5], 1.0, 1.0),  # perfect
        ([97, 1, 1, 1], 1.0, 0.296),  # seen once is used; that one code carries nearly all, perplexity tells
        ([20, 0, 0, 0], 0.25, 0.25),  # collapsed: the floor, 1 / k
        ([10, 10, 0, 0], 0.5, 0.5),
    ],
)
def test_usage_and_perplexity(counts, usage, perplexity):
    tokens = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    for order in (tokens, tokens.flip(0), tokens[torch.randperm(len(tokens))]):
        metric = CodebookUsage(4)
        for part in order.split(7):  # whatever the batches
            metric.update(part)
        found = metric.compute()
        assert found["usage"] == usage and found["perplexity"] == pytest.approx(perplexity, abs=5e-4)
    metric.reset()
    metric.update(torch.tensor([[3], [3]]))
    assert metric.compute()["usage"] == 0.25


def test_quantisation_error():
    def error(tokens: Tensor, codes: Tensor) -> float:
        metric = QuantisationError(tokens.shape[-1])
        for part, own in zip(tokens.split(3), codes.split(3), strict=True):
            metric.update(part, own)
        return metric.compute().item()

    torch.manual_seed(0)
    z = torch.randn(8, 16, 5) * torch.tensor([3.0, 1, 1, 1, 1]) + 7
    mean = z.mean((0, 1)).expand_as(z)
    assert error(z, z) == 0
    assert error(z, mean) == pytest.approx(1, rel=1e-5)  # the floor: one code at the mean
    assert error(z, mean.lerp(z, 0.5)) == pytest.approx(0.25, rel=1e-5)
    assert error(z, mean + 100) > 1
    for moved in (lambda x: 10 * x, lambda x: x - 4, lambda x: torch.cat([x, x], -1)):  # scale, place, dimension
        assert error(moved(z), moved(mean.lerp(z, 0.5))) == pytest.approx(0.25, rel=1e-4)


def test_drop_in_accuracy_and_probe_from_chance_to_perfect():
    rng, labels = np.random.default_rng(0), np.arange(400) % 10
    features = np.eye(10, dtype=np.float32)[labels]
    told = partial(probe, train_labels=labels[:200], test_labels=labels[200:])
    assert told(features[:200], test=features[200:]) == 1
    assert told(5 + 100 * features[:200], test=5 + 100 * features[200:]) == 1  # scale and place do not count
    noise = rng.normal(size=features.shape)
    assert 0.02 < told(noise[:200], test=noise[200:]) < 0.2
    head = LinearHead({"model.classifier.weight": torch.eye(10), "model.classifier.bias": torch.zeros(10)})
    tokens = torch.from_numpy(features)[:, None].expand(-1, 16, -1)
    assert (head(tokens).argmax(1).numpy() == labels).all()
    assert (head(tokens.roll(3, 1)).argmax(1).numpy() == labels).all()
    constant = head(torch.ones(400, 16, 10)).argmax(1).numpy()
    assert (constant == labels).mean() == 0.1


def test_judge_of_drawn_pictures_from_chance_to_perfect():
    class Sure:
        """Answers with the shape and colour it is shown as a number in the first two pixels."""

        def logits(self, images: Tensor) -> Tensor:
            cell = images[:, 0, 0, 0].long() * len(COLOURS) + images[:, 0, 0, 1].long()
            return 9.0 * torch.nn.functional.one_hot(cell, len(CLASSES) * len(COLOURS))

    labels = torch.arange(len(CLASSES)).repeat_interleave(len(COLOURS))
    captions = [f"a {colour} {shape}" for shape in CLASSES for colour in COLOURS]
    colours = torch.tensor([colour_of(caption) for caption in captions])
    drawn = torch.zeros(len(labels), 3, 4, 4)
    drawn[:, 0, 0, 0], drawn[:, 0, 0, 1] = labels.float(), colours.float()

    def shares(images: Tensor) -> dict[str, float]:
        return {name: hits.float().mean().item() for name, hits in judged(Sure(), images, labels, captions).items()}

    assert shares(drawn) == {"shape": 1, "colour": 1}
    assert shares(torch.zeros_like(drawn)) == pytest.approx({"shape": 0.1, "colour": 1 / 12})
    wrong_colour = drawn.clone()
    wrong_colour[:, 0, 0, 1] = (wrong_colour[:, 0, 0, 1] + 1) % len(COLOURS)
    assert shares(wrong_colour) == {"shape": 1, "colour": 0}
