"""VQRAE's quantiser, discriminator, GAN terms and perceptual loss: golden parity, closed forms, gradients."""

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.image.lpips import _LPIPS

from common.models.classifiers import convnext, vgg16
from projects.vqrae import discriminator as discriminator_module
from projects.vqrae import quantizer as quantizer_module
from projects.vqrae.discriminator import (
    Blur,
    LeCam,
    PatchDiscriminator,
    discriminator_loss,
    generator_loss,
    pad_same,
)
from projects.vqrae.perceptual import LogitDistance, Lpips, normalise
from projects.vqrae.quantizer import SimVQ, nearest
from tests.golden import golden_file

GOLDEN = golden_file("vqrae")
close = {"atol": 1e-5, "rtol": 1e-5}


def golden(case: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors of a golden case and the file's metadata; skips where there is no file."""
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}: set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        tensors = {k.split("/")[1]: file.get_tensor(k) for k in file.keys() if k.startswith(f"{case}/")}  # noqa: SIM118
        return tensors, file.metadata()


def test_golden_simvq():
    x, metadata = golden("simvq")
    assert metadata["simvq_legacy"] == "True"  # beta on the codebook term
    quantizer = SimVQ(*x["state.codebook"].shape, beta=float(metadata["simvq_beta"]))
    state = {"codes": "codebook", "projection.weight": "proj_weight", "projection.bias": "proj_bias"}
    quantizer.load_state_dict({own: x[f"state.{theirs}"] for own, theirs in state.items()})
    z = x["in.z"].requires_grad_()
    codes, indices, loss = quantizer(z)
    (loss + (codes * x["in.upstream"]).sum()).backward()
    assert torch.equal(indices, x["out.indices"])
    torch.testing.assert_close(codes, x["out.zq"], **close)
    torch.testing.assert_close(loss, x["out.loss"], **close)
    torch.testing.assert_close(z.grad, x["out.grad_z"], **close)
    torch.testing.assert_close(quantizer.projection.weight.grad, x["out.grad_proj_weight"], **close)
    torch.testing.assert_close(quantizer.projection.bias.grad, x["out.grad_proj_bias"], **close)
    torch.testing.assert_close(quantizer.lookup(indices), x["out.zq"], **close)


def test_golden_gan_losses():
    x, _ = golden("gan")
    real, fake = x["in.logits_real"], x["in.logits_fake"]
    torch.testing.assert_close(discriminator_loss(real, fake), x["out.hinge_d"], **close)
    torch.testing.assert_close(generator_loss(fake), x["out.gen"], **close)
    lecam = LeCam()
    lecam.ema_real.copy_(x["in.ema_real"])
    lecam.ema_fake.copy_(x["in.ema_fake"])
    torch.testing.assert_close(lecam(real, fake), x["out.lecam"].squeeze(), **close)


def test_golden_discriminator():
    x, metadata = golden("disc")
    discriminator = PatchDiscriminator(int(metadata["disc_hidden"]), int(metadata["disc_stages"]))
    discriminator.load_state_dict({k.removeprefix("state."): v for k, v in x.items() if k.startswith("state.")})
    torch.testing.assert_close(discriminator(x["in.x"]), x["out.logits"], **close)


def quantizer(size: int = 12, dim: int = 6, **settings) -> SimVQ:
    torch.manual_seed(0)
    return SimVQ(size, dim, **settings)


def test_straight_through_gradient_reaches_the_features_alone():
    vq, z, upstream = quantizer(), torch.randn(2, 5, 6, requires_grad=True), torch.randn(2, 5, 6)
    codes, _, _ = vq(z)
    (codes * upstream).sum().backward()
    assert torch.equal(z.grad, upstream)
    assert vq.projection.weight.grad is None and vq.codes.grad is None


@pytest.mark.parametrize("beta", [0.0, 0.25, 2.0])
def test_loss_is_one_plus_beta_times_the_distance(beta):
    vq, z = quantizer(beta=beta), torch.randn(2, 5, 6)
    codes, _, loss = vq(z)
    torch.testing.assert_close(loss, (1 + beta) * (codes - z).square().mean())


def test_beta_weighs_the_codebook_term_and_not_the_commitment():
    gradients = {}
    for beta in (0.0, 1.0):
        vq, z = quantizer(beta=beta), torch.ones(1, 4, 6, requires_grad=True)
        vq(z)[2].backward()
        gradients[beta] = (z.grad, vq.projection.weight.grad)
    assert torch.equal(gradients[0.0][0], gradients[1.0][0])
    assert not gradients[0.0][1].any() and gradients[1.0][1].abs().sum() > 0


def test_codes_stay_and_the_projection_learns():
    vq = quantizer()
    vq(torch.randn(2, 5, 6))[2].backward()
    assert not vq.codes.requires_grad and vq.codes.grad is None
    assert vq.projection.weight.grad.abs().sum() > 0 and vq.projection.bias.grad.abs().sum() > 0
    plain = quantizer(projected=False)
    plain(torch.randn(2, 5, 6))[2].backward()
    assert plain.codes.grad.abs().sum() > 0 and not list(plain.projection.parameters())


def test_identity_projection_is_plain_vector_quantisation():
    vq, plain, z = quantizer(), quantizer(projected=False), torch.randn(3, 4, 6)
    plain.codes.data.copy_(vq.codes)
    nn.init.eye_(vq.projection.weight)
    nn.init.zeros_(vq.projection.bias)
    for a, b in zip(vq(z), plain(z), strict=True):
        torch.testing.assert_close(a, b)


def test_an_effective_code_is_its_own_quantisation():
    vq = quantizer()
    book = vq.codebook().detach()[None]
    codes, indices, loss = vq(book)
    assert indices.tolist() == [list(range(12))]
    torch.testing.assert_close(codes, book)
    assert loss < 1e-12
    torch.testing.assert_close(vq.lookup(indices), codes)


def test_distances_are_to_projected_codes():
    vq = quantizer(size=2, dim=1)
    vq.codes.data.copy_(torch.tensor([[1.0], [2.0]]))
    vq.projection.weight.data.fill_(-1.0)
    vq.projection.bias.data.fill_(3.0)  # effective codes 2 and 1
    assert vq(torch.tensor([[[1.1]]]))[1].item() == 1


def test_nearest_does_not_depend_on_the_chunks(monkeypatch):
    z, book = torch.randn(50, 4), torch.randn(20, 4)
    expected = torch.cdist(z, book).argmin(1)
    assert torch.equal(nearest(z, book), expected)
    monkeypatch.setattr(quantizer_module, "CHUNK", 60)
    assert torch.equal(nearest(z, book), expected)


def test_quantiser_keeps_float32_under_autocast():
    vq, z = quantizer(), torch.randn(2, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        codes, indices, loss = vq(z.bfloat16())
    assert codes.dtype == loss.dtype == torch.float32
    assert torch.equal(indices, vq(z.bfloat16().float())[1])


def test_discriminator_gives_a_map_whatever_the_size():
    discriminator = PatchDiscriminator(32, 3)
    assert [block[0].out_channels for block in discriminator.blocks] == [32, 64, 128]
    assert discriminator(torch.rand(2, 3, 64, 64)).shape == discriminator(torch.rand(2, 3, 40, 56)).shape


def test_blur_keeps_a_plain_area_and_halves_the_picture():
    blurred = Blur()(torch.full((1, 2, 9, 12), 3.0))
    assert blurred.shape == (1, 2, 5, 6)
    torch.testing.assert_close(blurred[:, :, 1:-1, 1:-1], torch.full((1, 2, 3, 4), 3.0))


def test_same_padding_puts_the_odd_pixel_behind():
    padded = pad_same(torch.ones(1, 1, 4, 5), kernel=4, stride=2)
    assert padded.shape == (1, 1, 6, 8)  # 4 + 1 + 1, 5 + 1 + 2
    assert padded[0, 0, 0].sum() == 0 and padded[0, 0, 1, 0] == 0 and padded[0, 0, 1, 1] == 1


def test_gan_losses_in_closed_form():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert discriminator_loss(real, fake) == (0.25 + 0.5) / 2
    assert generator_loss(fake) == 1.5
    assert discriminator_loss(torch.ones(3), -torch.ones(3)) == 0


def test_lecam_in_closed_form():
    lecam = LeCam(decay=0.9)
    lecam.ema_real.fill_(2.0)
    lecam.ema_fake.fill_(-1.0)
    loss = lecam(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0]))
    assert loss == (0.5 + 1) ** 2 + (2 - 1.5) ** 2
    torch.testing.assert_close(lecam.ema_real, torch.tensor([0.9 * 2 + 0.1 * 0.5]))
    torch.testing.assert_close(lecam.ema_fake, torch.tensor([-0.9 + 0.1 * 1.5]))


def test_lecam_sees_the_means_of_all_processes(monkeypatch):
    """As if a second process had a batch of its own: its mean counts half, in the loss and in what is remembered."""
    elsewhere = iter(torch.tensor([[3.0], [-1.0]]))
    monkeypatch.setattr(discriminator_module, "gather", lambda own: torch.cat([own, next(elsewhere)]))
    lecam = LeCam(decay=0.9)
    lecam.ema_real.fill_(2.0)
    real = torch.tensor([1.0, 0.0], requires_grad=True)
    loss = lecam(real, torch.tensor([1.0, 2.0]))
    assert loss.item() == pytest.approx((0.5 + 3) ** 2 / 4 + (2 - 0.25) ** 2)
    loss.backward()
    torch.testing.assert_close(real.grad, torch.full((2,), 2 * 1.75 / 4))  # a quarter of the mean's weight each
    torch.testing.assert_close(lecam.ema_real, torch.tensor([0.9 * 2 + 0.1 * 1.75]))
    torch.testing.assert_close(lecam.ema_fake, torch.tensor([0.1 * 0.25]))


def test_lpips_is_the_published_one():
    torch.manual_seed(0)
    published = _LPIPS(net="vgg", pnet_rand=True)
    with torch.device("meta"):  # without the time that random values take
        features = vgg16().features
    trunk = nn.ModuleDict({k: v for n in range(1, 6) for k, v in getattr(published.net, f"slice{n}").named_children()})
    features.load_state_dict(trunk.state_dict(), assign=True)
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    ours = Lpips(features)(x, y)
    torch.testing.assert_close(ours, published(x, y, normalize=True).flatten(), **close)
    assert not Lpips(features)(x, x).any()


def test_uniform_heads_average_layers_and_bound_the_distance():
    lpips = Lpips(vgg16(width=4).features, learned_heads=False)
    distance = lpips(torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32))
    assert 0 < distance.item() <= 4  # two unit vectors are at most 2 apart
    assert lpips.head0.shape == (4,) and lpips.head4.shape == (32,)


def test_logit_distance_resizes_and_compares_logits():
    net = convnext((8, 8, 8, 8), (1, 1, 1, 1), classes=5)
    distance = LogitDistance(net, size=32)
    x, y = torch.rand(2, 3, 48, 48, requires_grad=True), torch.rand(2, 3, 48, 48)
    shrink = {"mode": "bilinear", "align_corners": False, "antialias": True}
    a, b = (net(normalise(F.interpolate(v, (32, 32), **shrink))) for v in (x, y))
    torch.testing.assert_close(distance(x, y), (a - b).square().mean(1))
    distance(x, y).sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in net.parameters())
