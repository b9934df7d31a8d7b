"""The student of residual reverse distillation (Thomine & Snoussi 2024, official models/reverse_Residual_ResNet.py).

It never sees the picture: the teacher's maps pass a narrow embedding and a bottleneck, and a decoder gives them back.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from projects.fabric_ad.teacher import Maps


class Cbr(nn.Module):
    """Convolution without bias, ReLU, and batch norm after it: the official order, whatever its name says."""

    def __init__(self, inside: int, out: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.conv(x)))


def embedding(channels: Sequence[int]) -> nn.Sequential:
    """1 x 1 convolutions, each halving the map: a position sees every other one of the map before, and no neighbour."""
    return nn.Sequential(*(Cbr(a, b, 1, 2) for a, b in zip(channels, channels[1:], strict=False)))


class SqueezeExcitation(nn.Module):
    """Channels weighed by what their means say."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(F.relu(self.fc1(x.mean((2, 3))))).sigmoid()
        return x * weights[..., None, None]


class Sspcab(nn.Module):
    """SSPCAB (Ristea et al. 2022): a position is predicted from four others around it, and not from itself.

    Args:
        channels: C.
        reduction: of the squeeze and excitation.
        kernel: side of the four convolutions.
        dilation: how far they are from the position, so that they lie `kernel + dilation` beside it.
    """

    def __init__(self, channels: int, reduction: int = 8, kernel: int = 1, dilation: int = 1):
        super().__init__()
        self.pad, self.border = kernel + dilation, kernel + 2 * dilation + 1
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(channels, channels, kernel) for _ in range(4))
        self.se = SqueezeExcitation(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        x, border = F.pad(x, (self.pad,) * 4), self.border
        corners = self.conv1(x[..., :-border, :-border]) + self.conv2(x[..., border:, :-border])
        corners = corners + self.conv3(x[..., :-border, border:]) + self.conv4(x[..., border:, border:])
        return self.se(F.relu(corners))


class BottleneckAttention(nn.Module):
    """A map weighed by a softmax over its columns, as released: the weights of a row add up to 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        value = F.relu(self.conv1(x))
        return self.conv2(value).softmax(-1) * value


class LinkAttention(nn.Module):
    """The same for a residual link, of 1 x 1 convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(channels, channels, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        value = F.relu(self.conv1(x))
        return self.conv3(F.relu(self.conv2(value))).softmax(-1) * value


class Link(nn.Module):
    """A residual link: a teacher's map, brought to the channels and the size of the level that it helps to give."""

    def __init__(self, inside: int, out: int, attention: bool = True):
        super().__init__()
        self.embed = Cbr(inside, out, 3)
        self.attend = LinkAttention(out) if attention else nn.Identity()

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return self.attend(F.adaptive_avg_pool2d(self.embed(x), tuple(size)))


class UpBlock(nn.Module):
    """A basic block of ResNet in reverse; with stride 2 its first convolution is a transposed one of 2 x 2."""

    def __init__(self, inside: int, out: int, stride: int = 1):
        super().__init__()
        first = {"kernel_size": 2, "stride": 2} if stride == 2 else {"kernel_size": 3, "padding": 1}
        kind = nn.ConvTranspose2d if stride == 2 else nn.Conv2d
        self.conv1, self.bn1 = kind(inside, out, bias=False, **first), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.upsample: nn.Module = nn.Identity()
        if stride == 2:
            self.upsample = nn.Sequential(nn.ConvTranspose2d(inside, out, 2, 2, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.upsample(x))


def up(inside: int, out: int, stride: int = 2, blocks: int = 2) -> nn.Sequential:
    """A stage of a reversed ResNet."""
    return nn.Sequential(UpBlock(inside, out, stride), *(UpBlock(out, out) for _ in range(blocks - 1)))


class ReverseStudent(nn.Module):
    """Gives the teacher's four maps back from those maps alone.

    Args:
        channels: the teacher's, from t0 to t3.
        links: residual links from shallower maps; the paper's variant for domain generalisation has none.
        sspcab: the bottleneck predicts positions from those around them.
        attention: the softmax attentions of bottleneck and links.
    """

    levels = (0, 1, 2, 3)
    """The teacher's maps that it gives."""

    def __init__(self, channels: Sequence[int], links: bool = True, sspcab: bool = True, attention: bool = True):
        super().__init__()
        c0, c1, c2, c3 = channels
        self.embeddings = nn.ModuleList(
            [embedding((c0, c2, c3)), embedding((c1, c2, c3)), embedding((c2, c3)), Cbr(c3, c3, 1)]
        )
        self.bottleneck = nn.Sequential(
            Cbr(c3, c3, 1),
            Cbr(c3, c3, 1),
            Cbr(c3, 2 * c3, 1, 2),
            Sspcab(2 * c3) if sspcab else nn.Identity(),
            BottleneckAttention(2 * c3) if attention else nn.Identity(),
        )
        pairs = ((c0, c1), (c1, c2), (c2, c3)) if links else ()
        self.links = nn.ModuleList(Link(a, b, attention) for a, b in pairs)
        self.decoder = nn.ModuleList([up(2 * c3, c3), up(c3, c2), up(c2, c1), up(c1, c0, 1)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor, maps: Maps) -> Maps:
        """The teacher's maps t0 to t3 -> s0 to s3 of their shapes. Pictures are not looked at."""
        embedded = [embed(t) for embed, t in zip(self.embeddings, maps, strict=True)]
        x = self.bottleneck(sum(embedded[1:], embedded[0]))
        found = []
        for k, stage in enumerate(self.decoder):
            x = stage(x)
            if k < len(self.links):  # the deepest level, s3, is helped by t2, and so on; s0 by none
                x = x + self.links[2 - k](maps[2 - k], x.shape[2:])
            found.append(x)
        return tuple(reversed(found))
