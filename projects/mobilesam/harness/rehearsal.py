"""Stand-ins for what the paper's configs read: made-up images in SA-1B's format, random weights in SAM's."""

from dataclasses import replace
from pathlib import Path

import torch

from common.models.sam import SamConfig, build_sam
from common.models.tiny_vit import TinyViT, TinyViTConfig
from common.rehearsal.sa1b import make_sa1b

SAM = SamConfig(image_size=96, embed_dim=32, depth=4, global_attn_indexes=(1, 3), decoder_mlp_dim=256)
SAM_B = replace(SAM, embed_dim=24, depth=2, num_heads=12, global_attn_indexes=(1,))
STUDENT = TinyViTConfig(image_size=SAM.image_size, embed_dims=(16, 32, 40, 80))
"""ViT-H, ViT-B and MobileSAM's TinyViT but for widths, blocks and input: their checkpoints' keys, but of fewer blocks.
The sizes of `configs/rehearsal/*.yaml`."""


def make(folder: Path) -> None:
    """Write `data/sa1b/{train,test}/*.tar` and the three published weight files into `folder`/`weights`.

    Two training batches; for testing more than the 200 images that the paper measures on, because validation has those
    after them.
    """
    make_sa1b(folder / "data/sa1b/train", images=4)
    make_sa1b(folder / "data/sa1b/test", images=204, resolution=(40, 60), first=11186)
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(build_sam(SAM).state_dict(), weights / "sam_vit_h_4b8939.pth")
    torch.save(build_sam(SAM_B).state_dict(), weights / "sam_vit_b_01ec64.pth")
    student = build_sam(SAM, TinyViT(STUDENT)).state_dict()
    width = STUDENT.embed_dims[-1]
    classifier = {
        "norm_head.weight": (width,),
        "norm_head.bias": (width,),
        "head.weight": (1000, width),
        "head.bias": (1000,),
    }
    unused = {f"image_encoder.{name}": torch.zeros(shape) for name, shape in classifier.items()}
    torch.save({**student, **unused}, weights / "mobile_sam.pt")
