"""What `make speed PAPER=sit` measures: LV-ViT and DeiT-S whole and slimmed, at their real sizes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.workload import Network, Speed
from projects.sit.backbone import Net, build
from projects.sit.model import Slimming, SlimViT
from projects.sit.recipe import DEIT_LAYOUT, LAYOUTS, OTHER_SIZES

README = {"source": "README of Sense-X/SiT"}
TEACHERS = {"LV-ViT-T": 15.7e6, "LV-ViT-S": 25.4e6, "LV-ViT-M": 55.2e6, "LV-ViT-L": 147e6}
STUDENTS = {"SiT-T": 15.9e6, "SiT-XS": 25.6e6, "SiT-S": 25.6e6, "SiT-M": 55.6e6, "SiT-L": 148.2e6}
"""Parameters that the README reports; ours are fewer by the auxiliary head, which no network uses."""


def speed() -> Speed:
    """Sizes and work are compared: the README names neither GPU nor batch of its images a second."""
    nets = {"LV-ViT-S": Net()} | {name: Net(**sizes) for name, sizes, _ in OTHER_SIZES.values()}
    layouts = {name.replace("LV-ViT", "SiT"): (name, layout) for name, _, layout in OTHER_SIZES.values()}
    for name, kind in (("SiT-XS", ""), ("SiT-S", "_mild")):
        layouts[name] = "LV-ViT-S", {k: v for k, v in LAYOUTS["paper"][kind].items() if k != "hard"}
    found = [
        Network(name, _built(net, None), giant=True, reported={"params": TEACHERS[name]}, **README)
        for name, net in nets.items()
    ]
    for name in STUDENTS:
        whole, layout = layouts[name]
        slim = _built(nets[whole], Slimming(**layout))
        found.append(Network(name, slim, whole, giant=True, reported={"params": STUDENTS[name]}, **README))
    deit = Net(name="deit_small_patch16_224")
    found += [
        Network("DeiT-S", _built(deit, None), giant=True),
        Network("DeiT-S, slimmed", _built(deit, Slimming(**DEIT_LAYOUT)), "DeiT-S", giant=True),
    ]
    return Speed(networks=tuple(found))


def _built(net: Net, slimming: Slimming | None) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    return lambda: (SlimViT(build(net), slimming).eval(), (torch.zeros(1, 3, net.image_size, net.image_size),))
