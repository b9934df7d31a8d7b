"""The rival: a network of fixed widths that a preference modulates, trained on losses weighted by random preferences.

It stands for hypernetworks of preferences (Pareto hypernetworks, controllable dynamic architectures): a small network
reads the preference and says how every stage's channels are scaled and shifted.
"""

from torch import Tensor, nn

from projects.controllable_mtl.model import BLOCKS, Encoder, Sizes

HIDDEN = 32


class ConditionedEncoder(Encoder):
    """An encoder whose stages, and whose neck, are scaled by 1 + a and shifted by b, both from a preference.

    Args:
        tasks: length K of a preference.
    """

    def __init__(self, sizes: Sizes, tasks: int):
        super().__init__(sizes)
        self.reader = nn.Sequential(nn.Linear(tasks, HIDDEN), nn.ReLU())
        channels = [planes * BLOCKS[sizes.block].expansion for planes in sizes.planes] + [sizes.features]
        self.scales = nn.ModuleList(nn.Linear(HIDDEN, count) for count in channels)
        self.shifts = nn.ModuleList(nn.Linear(HIDDEN, count) for count in channels)
        for number in range(self.stages):  # the neck is never slimmed
            self.sides |= {f"{kind}.{number}": (None, str(number)) for kind in ("scales", "shifts")}

    def forward(self, images: Tensor, preference: Tensor) -> Tensor:  # type: ignore[override]
        """[B, 3, H, W] and a preference [1, K] -> [B, C, h, w]."""
        read = self.reader(preference)
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number in range(self.stages):
            x = self._modulated(self.get_submodule(f"layer{number + 1}")(x), read, number)
        return self.relu(self._modulated(self.neck_norm(self.neck(x)), read, self.stages))

    def _modulated(self, x: Tensor, read: Tensor, place: int) -> Tensor:
        scale, shift = self.scales[place](read), self.shifts[place](read)
        return x * (1 + scale)[..., None, None] + shift[..., None, None]
