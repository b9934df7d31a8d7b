"""What the paper's student is compared with: RD4AD's, one that sees the picture, and a memory of features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck

from projects.fabric_ad.model import UpBlock
from projects.fabric_ad.teacher import Maps, Teacher


class UpBottleneck(nn.Module):
    """A bottleneck block of a wide ResNet in reverse, twice as wide inside as ResNet's."""

    def __init__(self, inside: int, out: int, stride: int = 1):
        super().__init__()
        width = out // 2
        middle: nn.Module = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.upsample: nn.Module = nn.Identity()
        if stride == 2:
            middle = nn.ConvTranspose2d(width, width, 2, 2, bias=False)
            self.upsample = nn.Sequential(nn.ConvTranspose2d(inside, out, 2, 2, bias=False), nn.BatchNorm2d(out))
        self.body = nn.Sequential(
            nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            middle, nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.upsample(x))


class ReverseDistillation(nn.Module):
    """RD4AD (Deng & Li 2022): the maps t1 to t3, halved by 3 x 3 convolutions, side by side, one deep code, a decoder.

    Args:
        channels: the teacher's, from t0 to t3.
        wide: blocks of a WideResNet-50 rather than of ResNet-18.
        depths: blocks of the code and of the decoder's three stages.
    """

    levels = (1, 2, 3)

    def __init__(self, channels: Sequence[int], wide: bool = False, depths: Sequence[int] = (2, 2, 2, 2)):
        super().__init__()
        _, c1, c2, c3 = channels
        self.first = nn.Sequential(_halved(c1, c2), _halved(c2, c3))
        self.second = _halved(c2, c3)
        code = [_down(3 * c3, 2 * c3, wide, 2), *(_down(2 * c3, 2 * c3, wide) for _ in range(depths[0] - 1))]
        self.code = nn.Sequential(*code)
        block = UpBottleneck if wide else UpBlock
        sizes = zip((2 * c3, c3, c2), (c3, c2, c1), depths[1:], strict=True)
        self.decoder = nn.ModuleList(
            nn.Sequential(block(a, b, 2), *(block(b, b) for _ in range(depth - 1))) for a, b, depth in sizes
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor, maps: Maps) -> Maps:
        """Of the teacher's maps t0 to t3 -> s1 to s3. Pictures are not looked at."""
        x = self.code(torch.cat([self.first(maps[1]), self.second(maps[2]), maps[3]], 1))
        found = []
        for stage in self.decoder:
            x = stage(x)
            found.append(x)
        return tuple(reversed(found))


def _halved(inside: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


def _down(inside: int, out: int, wide: bool, stride: int = 1) -> nn.Module:
    """A block of torchvision's ResNets."""
    shortcut = None
    if inside != out:
        shortcut = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    if wide:
        return Bottleneck(inside, out // Bottleneck.expansion, stride, shortcut, base_width=128)
    return BasicBlock(inside, out, stride, shortcut)


class ForwardStudent(nn.Module):
    """STPM (Wang et al. 2021): a network like the teacher's, untrained, that sees the picture.

    Args:
        net: the network, a ResNet of timm.
    """

    levels = (0, 1, 2, 3)

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = Teacher(net)

    def forward(self, images: Tensor, maps: Maps) -> Maps:
        return self.net(images)


class Memory:
    """Nearest neighbours among features of training pictures: PatchCore (Roth et al. 2022) with a random subset.

    A feature is of the second and third stage, each averaged over 3 x 3 positions, on the second's grid.

    Args:
        size: how many are kept.
        seed: which.
    """

    def __init__(self, size: int, seed: int = 0):
        self.size, self.generator = size, torch.Generator().manual_seed(seed)
        self.kept: Tensor | None = None

    @staticmethod
    def features(maps: Maps) -> Tensor:
        """[B, C, H, W] on the grid of t2."""
        parts = [F.avg_pool2d(part, 3, 1, 1) for part in maps[2:4]]
        deep = F.interpolate(parts[1], parts[0].shape[2:], mode="bilinear", align_corners=False)
        return torch.cat([parts[0], deep], 1)

    def fill(self, batches: Sequence[Tensor]) -> None:
        """Keep a random part of features [B, C, H, W] of training pictures."""
        rows = torch.cat([batch.permute(0, 2, 3, 1).flatten(0, 2) for batch in batches])
        chosen = torch.randperm(len(rows), generator=self.generator)[: self.size]
        self.kept = rows[chosen.to(rows.device)]

    def __call__(self, maps: Maps, size: int) -> Tensor:
        """Distance from the nearest one kept, scaled to the picture's size: [B, S, S]."""
        assert self.kept is not None
        found = self.features(maps)
        nearest = torch.cdist(found.permute(0, 2, 3, 1).flatten(0, 2), self.kept).amin(1)
        nearest = nearest.view(len(found), 1, *found.shape[2:])
        return F.interpolate(nearest, (size, size), mode="bilinear", align_corners=False)[:, 0]
