"""What `make speed PAPER=mobilesam` measures: encoders and decoder at their real sizes, a mini training, its data."""

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from common.data.promptable import PromptSamples
from common.data.readers.coco_panoptic import CocoPanoptic
from common.data.readers.sa1b import SA1B, write_sa1b
from common.data.scene import SceneSource
from common.data.stores import ArrayStore
from common.data.stream import Stream
from common.data.worlds.shapes import ShapeScenes
from common.models.sam import SamConfig, build_sam
from common.models.sam_checkpoint import read_sizes
from common.models.sam_onnx import decoder_example, export_decoder, export_encoder, onnx_decoder
from common.models.tiny_vit import TinyViT, TinyViTConfig, layer_lr_scales
from common.rehearsal.datasets import make_coco
from common.rehearsal.sa1b import make_scene
from common.training.schedules import adamw
from common.workload import Network, Source, Speed, Training
from projects.mobilesam.teacher import NoEncoder

CONFIG = Path(__file__).parents[1] / "configs/mini/student.yaml"
METHOD = CONFIG.with_name("distill.yaml")
"""What the students share, and the method's own settings on top of it."""
RELEASED = (1500, 2250)  # pixels, height and width of a released SA-1B image


def speed() -> Speed:
    """Encoders of all sizes beside the student's, the decoder they share, the distillation at mini scale, its data."""
    side = _mini()["data"]["image_size"]
    vit = "SAM ViT-H encoder"
    table_1, table_3, readme = {"source": "Table 1"}, {"source": "Table 3"}, {"source": "README"}
    return Speed(
        networks=(
            Network(vit, _vit("vit_h"), giant=True, reported={"params": 632e6, "ms": 452}, **table_3),
            Network("SAM ViT-L encoder", _vit("vit_l"), vit, giant=True, reported={"params": 307e6}, **table_1),
            Network("SAM ViT-B encoder", _vit("vit_b"), vit, _export_encoder, reported={"params": 86e6}, **table_1),
            Network("MobileSAM encoder", _tiny, vit, _export_encoder, reported={"params": 5.78e6, "ms": 8}, **table_3),
            Network("mask decoder", _mask_decoder, reported={"params": 3.876e6}, **readme),
            Network("prompts to masks", _decoder, "", _export_decoder, reported={"ms": 4}, **readme),
        ),
        sources=(
            Source("world of shapes, a mini scene", _world),
            Source("SA-1B, a mini sample with 4 of 6 masks", partial(_sa1b, (side, side), side, 4, 6)),
            Source("SA-1B, an image at paper scale", partial(_sa1b, RELEASED, 1024, 0, 6)),
            Source("SA-1B, an image at paper scale with 4 of 100 masks", partial(_sa1b, RELEASED, 1024, 4, 100)),
            Source("COCO panoptic, 480 x 640", _coco),
        ),
        training=Training(prepare, command, bare),
    )  # fmt: skip


def _image(side: int = 1024) -> tuple[Tensor, ...]:
    return (torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)),)


def _vit(size: str) -> Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]:
    return lambda: (build_sam(SamConfig.named(size)).image_encoder.eval(), _image())


def _tiny() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return TinyViT(TinyViTConfig()).eval(), _image()


def _mask_decoder() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """SAM's mask decoder alone, for a box and a point: its own parameters, without the prompt encoder's."""
    sam = build_sam(SamConfig(), NoEncoder(1024)).eval()
    image = torch.zeros(1, sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)
    tokens = torch.zeros(2, 3, sam.prompt_encoder.embed_dim)
    places, dense = sam.prompt_encoder.get_dense_pe().detach(), image.repeat(2, 1, 1, 1)
    return sam.mask_decoder, (image, places, tokens, dense, torch.ones((), dtype=torch.bool))


def _decoder() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Prompt encoder, mask decoder and the scaling of masks to a 768 x 1024 image, for a box and a point."""
    sam = build_sam(SamConfig(), NoEncoder(1024))
    return onnx_decoder(sam), decoder_example(sam)


def _export_encoder(encoder: nn.Module, path: Path) -> None:
    export_encoder(SimpleNamespace(image_encoder=encoder), path)  # type: ignore[arg-type]


def _export_decoder(decoder: Any, path: Path) -> None:
    export_decoder(decoder.model, path)


def _world(folder: Path) -> Callable[[int], Any]:
    return ShapeScenes("train", 2**31 - 1, resolution=_mini()["data"]["image_size"]).__getitem__


def _sa1b(resolution: tuple[int, int], side: int, instances: int, masks: int, folder: Path) -> Callable[[int], Any]:
    """Decoded, scaled and normalised, with prompts for `instances` of the masks, as a training step gets it."""
    for number in range(4):
        image, drawn = make_scene(number, resolution)
        write_sa1b(folder, f"sa_{number}", image, np.resize(drawn, (masks, *resolution)))
    return _draw(PromptSamples(SA1B(str(folder), masks=instances > 0), side, instances=instances))


def _coco(folder: Path) -> Callable[[int], Any]:
    make_coco(folder, "train", images=8, resolution=(480, 640))
    return _draw(PromptSamples(CocoPanoptic(str(folder), "train"), 128, instances=4))


def _draw(samples: PromptSamples) -> Callable[[int], Any]:
    return lambda i: samples.draw(i % len(samples), np.random.default_rng(i))


def _mini() -> dict[str, Any]:
    shared, own = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in (CONFIG, METHOD))
    return {
        section: {**(shared.get(section) or {}), **(own.get(section) or {})}
        if isinstance(shared.get(section, own.get(section)), dict)
        else own.get(section, shared.get(section))
        for section in shared | own
    }


def prepare(folder: Path) -> None:
    """What the distillation reads: scenes of the world in SA-1B's format, embeddings and a teacher, both random."""
    sam, _ = read_sizes(CONFIG)
    scenes = ShapeScenes("train", 64, resolution=sam.image_size)
    for index in range(len(scenes)):
        scene = scenes[index]
        write_sa1b(folder / "train", f"sa_{index}", scene.image, scene.masks)
    torch.manual_seed(0)
    torch.save(build_sam(sam).state_dict(), folder / "teacher.pth")
    shape = (sam.prompt_dim, sam.embedding_size, sam.embedding_size)
    store = ArrayStore.create(folder / "embeddings", len(scenes), shape, "float16", key="random")
    for index in range(len(scenes)):
        store.write(index, np.random.default_rng(index).normal(size=shape))


def command(folder: Path) -> list[str]:
    """The distillation at mini scale on what `prepare` wrote, without validation: the bare loop has none."""
    settings = {
        "model.teacher_weights": folder / "teacher.pth",
        "data.train.init_args.root": folder / "train",
        "data.val.init_args.root": folder / "train",
        "data.embeddings": folder / "embeddings",
        "trainer.limit_val_batches": 0,
    }
    overrides = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return ["projects.mobilesam.distill", "fit", "--config", str(CONFIG), "--config", str(METHOD), *overrides]


def bare(folder: Path) -> Callable[[], None]:
    """The same step by hand: the same data, student, loss, clipping, optimiser with its groups, and schedule."""
    config = _mini()
    torch.set_num_threads(config["threads"])
    sam, sizes = read_sizes(CONFIG)
    student = build_sam(sam, TinyViT(sizes))
    encoder = student.image_encoder.train()
    model, trainer = config["model"], config["trainer"]
    settings = model["lr"], model["weight_decay"], model["warmup_steps"], trainer["max_steps"]
    made = adamw(layer_lr_scales(encoder, model.get("layer_decay", 1.0)), *settings)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    source: SceneSource = SA1B(str(folder / "train"))
    samples = PromptSamples(source, sam.image_size, embeddings=ArrayStore.open(folder / "embeddings"), cache=True)
    size = config["data"]["batch_size"]
    positions = (range(start, start + size) for start in count(0, size))
    batches = iter(DataLoader(Stream(samples, seed=0), batch_sampler=positions))  # type: ignore[arg-type]

    def step() -> None:
        batch = next(batches)
        loss = F.mse_loss(encoder(batch["image"]), batch["embedding"])
        optimizer.zero_grad()
        loss.backward()
        if clip := trainer.get("gradient_clip_val"):
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), clip)
        optimizer.step()
        schedule.step()

    return step
