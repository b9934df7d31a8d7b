"""Make any vision transformer of timm's faster by slimming its tokens; classify pictures with it; export it.

python -m projects.sit.tools.slim train photos/ --teacher deit_small_patch16_224 --keep 0.5 --out slim.safetensors
python -m projects.sit.tools.slim train photos/ --teacher vit_base_patch16_224 --weights mine.pth --classes names.txt
python -m projects.sit.tools.slim classify photos/ --model slim.safetensors
python -m projects.sit.tools.slim export --model slim.safetensors --out slim.onnx

`train` needs pictures of the kind that the network is for, in a folder and those within it, and no labels: the slimmed
copy begins with the network's weights and learns to have its tokens and answers again. It says how often the two agree
on pictures that were kept apart, and how much less work a picture is. Hundreds of pictures are a trial; the paper takes
ImageNet's million, with labels, for days (`make reproduce PAPER=sit SCALE=paper`).

`export` writes ONNX: images float32 [B, 3, S, S], normalised as the network wants (it says how) -> logits [B, C].
"""

# torch is imported after the command line has been read, so that --help and its errors come at once
from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.console import printable
from common.data.files import lines_of, walk
from common.data.pictures import SUFFIXES, natural, read_picture
from common.devices import device_of, device_option
from common.errors import UserError, user_errors
from common.paths import given_path

if TYPE_CHECKING:
    from torch import Tensor

    from projects.sit.model import SlimViT

FORMAT = "slimmed_vit"
"""Key of what a file says of itself."""
HELD_OUT, MOST_HELD_OUT, SAID_EVERY = 10, 500, 50
"""Every so many-th picture is kept apart, at most so many; steps between two lines."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m projects.sit.tools.slim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = command.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="slim a network")
    train.add_argument("pictures", type=given_path, help="folder of pictures, in it or in folders of it")
    train.add_argument("--teacher", required=True, metavar="NAME", help="a vision transformer of timm's")
    train.add_argument("--weights", type=given_path, help="its weights, if not those that timm fetches")
    train.add_argument("--classes", type=given_path, help="text file, the name of a class a line")
    train.add_argument("--keep", type=float, default=0.5, help="share of tokens left each time (default: 0.5)")
    train.add_argument(
        "--after", type=int, nargs="+", metavar="BLOCK",
        help="blocks after which that is, counted from 1 (default: 5 7 9 of 12, and so in others)",
    )  # fmt: skip
    train.add_argument("--steps", type=int, default=1000, help="of training (default: 1000)")
    train.add_argument("--batch", type=int, default=32, help="pictures a step (default: 32)")
    train.add_argument("--lr", type=float, default=1e-4, help="learning rate (default: 1e-4)")
    train.add_argument("--seed", type=int, default=0, help="of all chance (default: 0)")
    train.add_argument("--out", type=given_path, default=Path("slim.safetensors"), help="default: slim.safetensors")
    classify = commands.add_parser("classify", help="say what pictures show")
    classify.add_argument("pictures", type=given_path, nargs="+", help="files, or folders of them")
    classify.add_argument("--top", type=int, default=3, help="classes to name (default: 3)")
    classify.add_argument("--json", action="store_true", help="a line of JSON for each picture")
    export = commands.add_parser("export", help="write ONNX")
    export.add_argument("--out", type=given_path, required=True, help="an .onnx file")
    for one in (classify, export):
        one.add_argument("--model", type=given_path, required=True, help="what train has written")
    for one in (train, classify):
        device_option(one)
    return command


def check(given: argparse.Namespace) -> None:
    """UserError for what cannot be done, before anything is loaded."""
    if given.command == "train" and (
        min(given.steps, given.batch) < 1 or not 0 < given.lr < 1 or not 0 < given.keep < 1 or given.seed < 0
    ):
        raise UserError("--steps and --batch from 1, --lr and --keep between 0 and 1, --seed from 0")
    if given.command == "train" and not given.pictures.is_dir():
        raise UserError(f"no folder at {printable(given.pictures)}: give one with pictures in it")
    if given.command == "classify" and given.top < 1:
        raise UserError(f"--top {given.top}: at least 1")
    if given.command != "classify":
        ending = ".onnx" if given.command == "export" else ".safetensors"
        if given.out.suffix != ending or given.out.is_dir() or not given.out.absolute().parent.is_dir():
            raise UserError(f"--out {printable(given.out)}: give a {ending} file in a folder that is there")


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Pictures of folders and of all folders in them; files as they are named. UserError where there are none."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = [folder / name for folder, names in walk(path) for name in names if not name.startswith(".")]
        pictures = sorted((file for file in inside if file.suffix.lower() in SUFFIXES), key=natural)
        if not pictures:
            raise UserError(f"no pictures in {printable(path)}: names that end in {', '.join(sorted(SUFFIXES))} count")
        found += pictures
    return found


def read(files: Sequence[Path], transform: Any) -> Iterator[tuple[Path, Tensor]]:
    """Pictures as the network wants them; those that cannot be read are named and passed over."""
    from PIL import Image

    for file in files:
        try:
            image = read_picture(file)
        except UserError as error:
            print(f"passed over: {error}", file=sys.stderr)
            continue
        yield file, transform(Image.fromarray(image))


def train(given: argparse.Namespace) -> None:
    """Slim, say what it came to, write."""
    import timm.data
    import torch
    from safetensors.torch import save

    from common.data.files import write_atomic
    from common.losses.distillation import forward_kl
    from common.training.weights import load_state
    from projects.sit.backbone import Net, as_vit, named
    from projects.sit.evaluate import costs
    from projects.sit.losses import learning_rates, token_loss
    from projects.sit.model import Slimming, recovered
    from projects.sit.slim import SelfSlimming

    files = files_of([given.pictures])
    apart = files[::HELD_OUT][:MOST_HELD_OUT]
    learned = sorted(set(files) - set(apart), key=natural)
    if len(learned) < given.batch:
        raise UserError(
            f"{len(learned)} pictures to learn from do not fill a batch of {given.batch}: give more pictures"
        )
    random.seed(given.seed)
    torch.manual_seed(given.seed)
    settings = {}
    if given.weights is not None:
        state = load_state(given.weights)
        head = state.get("head.weight")
        if head is None:
            raise UserError(f"{printable(given.weights)} has no head.weight: give a network with its classifier")
        settings["num_classes"] = len(head)
    plain = as_vit(named(given.teacher, pretrained=False, **settings))
    classes, depth = plain.num_classes, len(plain.blocks)
    if not classes:
        raise UserError(f"{given.teacher} has no classifier: name another network, or give --weights of one that has")
    names = class_names(given.classes, classes)
    usual = {max(1, round(depth * part / 12)) for part in (5, 7, 9)}
    slimming = Slimming(given.after or sorted(usual), given.keep)
    device = device_of(given.device)
    weights = None if given.weights is None else str(given.weights)
    module = SelfSlimming(Net(given.teacher, classes), slimming, weights).to(device)
    student, teacher, reverse = module.student, module.teacher, module.rtsm
    assert teacher is not None and reverse is not None
    shape = timm.data.resolve_model_data_config(teacher.vit)
    sees = timm.data.create_transform(**shape)
    augments = timm.data.create_transform(
        shape["input_size"], is_training=True, mean=shape["mean"], std=shape["std"], interpolation="bicubic"
    )
    groups = module.parameter_groups()
    optimizer = torch.optim.AdamW(groups, lr=given.lr)
    for step in range(given.steps):
        rates = learning_rates(step, given.lr, given.lr / 40, given.steps)
        for group in optimizer.param_groups:
            group["lr"] = rates["rtsm" in group]
        batch = [image for _, image in read(random.sample(learned, given.batch), augments)]
        if not batch:
            raise UserError(f"none of {given.batch} pictures could be read: look at {printable(given.pictures)}")
        images = torch.stack(batch).to(device)
        with torch.no_grad():
            target = teacher.see(images)
        seen = student.train().see(images)
        loss = 2 * token_loss(recovered(seen.tokens, reverse), target.tokens)
        loss = loss + 2 * forward_kl(seen.answer, target.answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % SAID_EVERY == 0 or step == given.steps - 1:
            print(f"step {step + 1} of {given.steps}: loss {loss.item():.4f}", flush=True)
    student.eval()
    with torch.no_grad():
        same = [
            bool(student(image[None].to(device)).argmax() == teacher(image[None].to(device)).argmax())
            for _, image in read(apart, sees)
        ]
    before, after = costs(teacher.cpu())["macs"], costs(student.cpu())["macs"]
    said = {"name": given.teacher, "classes": names, "after": slimming.after, "keep": slimming.keep, "shape": shape}
    write_atomic(given.out, save(student.state_dict(), {FORMAT: json.dumps(said)}))
    print(f"{sum(same)} of {len(same)} pictures that were kept apart get the answer of the whole network")
    print(f"{before:,.0f} million multiply-adds a picture before, {after:,.0f} after: {before / after:.2f} times less")
    print(f"wrote {printable(given.out)}")


def class_names(file: Path | None, count: int) -> list[str]:
    """Names of the classes: a file's, ImageNet's where there are 1,000, else numbers."""
    if file is not None:
        names = lines_of(file)
        if len(names) != count:
            raise UserError(f"{printable(file)} names {len(names)} classes, the network has {count}: a line for each")
        return names
    from timm.data import ImageNetInfo

    return ImageNetInfo().label_descriptions() if count == 1000 else [f"class {k}" for k in range(count)]


def load(file: Path) -> tuple[SlimViT, dict[str, Any]]:
    """What `train` has written, and what it says of itself."""
    from safetensors import SafetensorError, safe_open

    from common.training.weights import load_weights
    from projects.sit.backbone import named
    from projects.sit.model import Slimming, SlimViT

    if not file.is_file():
        raise UserError(f"no file at {printable(file)}: give what `train` has written")
    try:
        with safe_open(file, "pt") as opened:
            said = json.loads((opened.metadata() or {})[FORMAT])
        slimming = Slimming([int(block) for block in said["after"]], float(said["keep"]))
        name, count = str(said["name"]), len(said["classes"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{printable(file)} was not written by `train` of this command, or is damaged") from error
    net = SlimViT(named(name, pretrained=False, num_classes=count), slimming)
    return load_weights(net, file).requires_grad_(False).eval(), said


def classify(given: argparse.Namespace) -> None:
    """A line for each picture."""
    import timm.data

    files = files_of(given.pictures)
    net, said = load(given.model)
    device = device_of(given.device)
    net, transform, count = net.to(device), timm.data.create_transform(**said["shape"]), 0
    for file, image in read(files, transform):
        count += 1
        shares, best = net(image[None].to(device))[0].softmax(0).topk(min(given.top, len(said["classes"])))
        found = {said["classes"][k]: round(float(share), 4) for k, share in zip(best.tolist(), shares, strict=True)}
        if given.json:
            print(json.dumps({"picture": str(file), "classes": found}))
        else:
            print(f"{printable(file)}: " + ", ".join(f"{name} {share:.2f}" for name, share in found.items()))
    if count < len(files):
        raise UserError(f"{len(files) - count} of {len(files)} pictures could not be read")


def export(given: argparse.Namespace) -> None:
    """Write ONNX, for batches of any size."""
    import torch

    net, said = load(given.model)
    shape = said["shape"]
    images = torch.zeros(2, *shape["input_size"])  # of two, because torch.export takes a size of one for a constant
    program = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.onnx.export(
        program, (), given.out, dynamo=True, verbose=False, external_data=False,
        input_names=["images"], output_names=["logits"],
    )  # fmt: skip
    print(f"wrote {printable(given.out)}: images {list(shape['input_size'])}, mean {shape['mean']}, std {shape['std']}")


@user_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a user's error is one message and exit code 2."""
    given = parser().parse_args(arguments)
    check(given)
    {"train": train, "classify": classify, "export": export}[given.command](given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
