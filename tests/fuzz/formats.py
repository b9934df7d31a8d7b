"""Every reader's format, recipes' own included: valid files, a way to read all of them, and what may come out."""

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pycocotools import mask as coco_mask

from common.data.code import Function, Repository
from common.data.images import Picture
from common.data.linking import Domain
from common.data.pairs import Pair
from common.data.readers.captioned_parquet import CaptionedParquet
from common.data.readers.captioned_tars import CaptionedTars
from common.data.readers.clones import BigCloneBench, Poj104, Program
from common.data.readers.coco_captions import CocoCaptions
from common.data.readers.coco_instances import CocoInstances, InstanceScene
from common.data.readers.coco_panoptic import CocoPanoptic
from common.data.readers.code_search import CodeSearchNet, CodeTriplets
from common.data.readers.diffusiondb import DiffusionDB, write_diffusiondb
from common.data.readers.glue import Glue
from common.data.readers.goemotions import GoEmotions
from common.data.readers.image_parquet import ImageParquet
from common.data.readers.imagenet import ImageNet
from common.data.readers.python_functions import read_folder
from common.data.readers.sa1b import SA1B, write_sa1b
from common.data.readers.stack import StackRepositories
from common.data.readers.sts import SemEvalSTS, Sick, STSBenchmark
from common.data.readers.video_tars import VideoTars
from common.data.readers.zeshel import ZeShEL
from common.data.scene import Scene, UnreadableSample
from common.data.stores import ArrayStore
from common.data.text import LabelledText
from common.data.videos import Video
from projects.emo_pillars.data import EmoContext, Isear
from projects.emo_pillars.records import FILES as EMO_PILLARS
from projects.emo_pillars.records import EmoPillars
from projects.mobilesam.data import MaskFolder
from projects.trans_encoder.sources import PairTask
from projects.vqrae.captions import read_prompts

Files = dict[str, bytes]


@dataclass(frozen=True)
class Format:
    """A reader with files that it reads.

    Attributes:
        files: contents by path.
        read: everything that a folder of such files holds, and how many samples could not be read.
        count: samples in the valid files.
        sealed: whether the format itself shows that samples are missing (tars, parquet, gzip).
    """

    files: Files
    read: Callable[[Path], tuple[list[Any], int]]
    count: int
    sealed: bool = False


def every(items: Iterable[Callable[[], Any]]) -> tuple[list[Any], int]:
    """What the calls return, and how many of them met an unreadable sample, which loaders tolerate."""
    found, unreadable = [], 0
    for item in items:
        try:
            found.append(item())
        except UnreadableSample:
            unreadable += 1
    return found, unreadable


def indexed(source: Any) -> tuple[list[Any], int]:
    return every(lambda k=k: source[k] for k in range(len(source)))


def splits(source: Any, names: Iterable[str] = ("train", "val", "test")) -> tuple[list[Any], int]:
    return [row for name in names for row in source.read(name)], 0


def wrong(item: Any) -> str | None:
    """What is of the wrong kind in something that a reader gave, None where nothing is."""

    def text(*values: Any, blank: bool = False) -> bool:
        return all(type(value) is str and (blank or value.strip()) for value in values)

    match item:
        case LabelledText(a, b, label):
            good = text(a, blank=True) and (b is None or text(b, blank=True)) and type(label) is int
            good = good and 0 <= label < 30
        case Pair(a, b, score):
            good = text(a, b) and (score is None or (type(score) is float and 0 <= score <= 1))
        case Function():
            letters = item.text.split()
            good = text(item.code, item.where) and text(*item, blank=True)
            good = good and not (len(letters) > 5 and all(len(letter) == 1 for letter in letters))
        case Program(code, label):
            good = text(code) and type(label) is int and 0 <= label < 1000
        case Repository(name, contents):
            good = text(name) and bool(contents) and text(*contents)
        case Scene():
            masks = np.asarray(item.masks)
            good = text(item.name) and pixels(item.image) and masks.dtype == bool
            good = good and masks.shape[1:] == item.image.shape[:2] and len(masks) > 0
            nameless = isinstance(item, InstanceScene)  # its JSON may leave categories out
            good = good and text(*getattr(item, "categories", ()), blank=nameless) and bool(masks.any((1, 2)).all())
        case Picture():
            good = text(item.name) and text(item.caption, blank=True) and pixels(item.image)
            good = good and type(item.label) is int and -1 <= item.label < 10
        case Video():
            good = item.frames.ndim == 4 and all(map(pixels, item.frames)) and text(item.caption)
            good = good and item.caption not in ("None", "True") and item.caption[0] not in "[{"
        case Domain():
            good = text(*(entity.title for entity in item.entities), *(entity.text for entity in item.entities))
            good = good and all(text(m.mention) and 0 <= m.entity < len(item.entities) for m in item.mentions)
            good = good and all(m.mention in ("cat", "red cat") for m in item.mentions)
        case np.ndarray():
            good = item.shape == (2, 3) and item.dtype == np.float32
        case _:
            good = text(*item) if isinstance(item, tuple) else False
    return None if good else f"{item!r:.300}"


def pixels(image: np.ndarray) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


# valid files


def lines(*rows: Iterable[object]) -> bytes:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()


def jsonl(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), content, **options)
    return content.getvalue()


def picture(number: int, kind: str = "JPEG") -> bytes:
    content = io.BytesIO()
    image = np.full((12, 16, 3), (number * 40 % 256, 90, 200), np.uint8)
    Image.fromarray(image).save(content, kind)
    return content.getvalue()


def tar(files: Files) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def diffusiondb(folder: Path) -> None:
    """Two parts of two pictures."""
    for part in (1, 2):
        pictures = {f"{part}-{k}.png": (picture(2 * part + k), f"prompt {part} {k}") for k in range(2)}
        write_diffusiondb(folder / f"part-{part:06d}.zip", pictures)


def written(write: Callable[[Path], None]) -> Files:
    """What `write` leaves in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def movie(number: int) -> bytes:
    def write(folder: Path) -> None:
        writer = cv2.VideoWriter(str(folder / "a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 8, (32, 24))
        for k in range(6):
            writer.write(np.full((24, 32, 3), 20 * number + 5 * k, np.uint8))
        writer.release()

    return written(write)["a.mp4"]


def coco() -> Files:
    files: Files = {}
    images, annotations = [], []
    for number in (7, 8):
        ids = np.full((12, 16), 1)
        ids[:, 8:], ids[:3, 5:] = 258, 65536
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(colours).save(content, "PNG")
        files[f"annotations/panoptic_val2017/{number:012d}.png"] = content.getvalue()
        files[f"val2017/{number:012d}.jpg"] = picture(number)
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "height": 12, "width": 16})
        segments = [{"id": i, "category_id": c, "iscrowd": k} for i, c, k in ((258, 1, 0), (1, 187, 0), (65536, 1, 1))]
        annotations.append({"image_id": number, "file_name": f"{number:012d}.png", "segments_info": segments})
    categories = [{"id": 1, "name": "person", "isthing": 1}, {"id": 187, "name": "sky", "isthing": 0}]
    panoptic = {"images": images, "annotations": annotations, "categories": categories}
    captions = [{"id": 5 * n + k, "image_id": n, "caption": f"words {k}"} for n in (7, 8) for k in (1, 0)]
    files["annotations/panoptic_val2017.json"] = json.dumps(panoptic).encode()
    files["annotations/captions_val2017.json"] = json.dumps({"images": images, "annotations": captions}).encode()
    return files


def instances() -> Files:
    """COCO's instances as polygons and as run-length encodings of both kinds."""
    forms: list[Any] = [
        [[1.0, 1.0, 9.0, 1.0, 9.0, 8.0]],
        {"size": [12, 16], "counts": [20, 30, 142]},
        {"size": [12, 16], "counts": coco_mask.encode(np.asfortranarray(np.eye(12, 16), np.uint8))["counts"].decode()},
    ]
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (7, 8)]
    annotations = [
        {"image_id": n, "segmentation": form, "iscrowd": 0, "category_id": n} for n in (7, 8) for form in forms
    ]
    files = {f"images/{number}.jpg": picture(number) for number in (7, 8)}
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "a cup", "isthing": 1}]}
    return {**files, "instances.json": json.dumps(content).encode()}


def pairs() -> Files:
    """Pictures, and their masks as numbers in a PNG."""
    files: Files = {}
    for number in range(3):
        ids, content = np.zeros((12, 16), np.uint8), io.BytesIO()
        ids[2:5, 3:9], ids[6:, :4] = 1, 2
        Image.fromarray(ids).save(content, "PNG")
        files |= {f"images/{number}.jpg": picture(number), f"masks/{number}.png": content.getvalue()}
    return files


def sa1b(folder: Path) -> None:
    for number in range(3):
        masks = np.zeros((2, 12, 16), bool)
        masks[0, 2:5, 3:9] = masks[1, 6:, :4] = True
        write_sa1b(folder, f"sa_{number}", np.full((12, 16, 3), 60 * number, np.uint8), masks)


def arrays(folder: Path) -> None:
    for rank in (0, 1):
        writer = ArrayStore.create(folder, 5, (2, 3), "float32", rank, 2, key="teacher", names=list("abcde"))
        for index in writer.missing():
            writer.write(int(index), np.full((2, 3), index, np.float32))


def read_store(folder: Path) -> tuple[list[Any], int]:
    store = ArrayStore.open(folder, names=list("abcde"))
    return every(lambda k=k: np.array(store[k]) for k in range(len(store)))


def read_videos(folder: Path) -> tuple[list[Any], int]:
    source = VideoTars(str(folder))
    return every(lambda k=k: source.clip(k, 2, 2) for k in range(len(source)))


def read_code(folder: Path) -> tuple[list[Any], int]:
    found = read_folder(folder)
    return [(function.name, function.code) for function in found.functions], len(found.skipped)


def read_zeshel(folder: Path) -> tuple[list[Any], int]:
    return [ZeShEL(str(folder)).domain("yugioh")], 0


def hub_rows(count: int) -> list[dict[str, Any]]:
    return [{"sentence1": f"a {k}", "sentence2": f"b {k}", "label": k % 2, "idx": k} for k in range(count)]


def zeshel() -> Files:
    documents = [
        {"title": f"T{k}", "text": f"the red  cat\nnumber {k} sleeps", "document_id": f"D{k}"} for k in range(4)
    ]
    places = [("D0", "D1", 2, 2, "cat"), ("D2", "D3", 1, 2, "red cat")]
    mentions = [
        {
            "category": "LOW_OVERLAP", "text": text, "mention_id": f"M{k}", "context_document_id": context,
            "label_document_id": label, "start_index": start, "end_index": end, "corpus": "yugioh",
        }
        for k, (context, label, start, end, text) in enumerate(places)
    ]  # fmt: skip
    files = {f"mentions/{split}.json": jsonl(mentions) for split in ("train", "val", "test")}
    return {**files, "documents/yugioh.json": jsonl(documents)}


def formats() -> dict[str, Format]:
    """All formats by name."""
    images = {
        f"{k:05d}.{kind}": data for k in range(4) for kind, data in (("jpg", picture(k)), ("txt", b"a caf\xc3\xa9"))
    }
    videos = {
        f"{k:05d}.{kind}": data
        for k in range(3)
        for kind, data in (("mp4", movie(k)), ("json", json.dumps({"caption": f"video {k}", "id": k}).encode()))
    }
    folder_of_masks = written(sa1b)
    functions = [
        {
            "code": f"def f{k}(): return {k}", "docstring": f"Say the number {k} of them all.", "url": f"u{k}",
            "docstring_tokens": ["Say", "the", "number", str(k), "of", "them", "all"], "path": "p.py", "code_b": None,
        }
        for k in range(5)
    ]  # fmt: skip
    programs = [{"label": str(k % 3), "index": str(k), "code": f"int main() {{ return {k}; }}"} for k in range(4)]
    repositories = [
        {"repo_name": f"r{k}", "files": [{"path": "p", "content": f"x = {k}"}, {"path": "q", "content": None}]}
        for k in range(6)
    ]
    triplets = [{"text": f"say {k}", "code_a": f"a{k}", "code_b": f"b{k}", "lang": "C"} for k in range(5)]
    encoded = [{"image": {"bytes": picture(k), "path": f"{k}.jpg"}, "label": k % 2} for k in range(4)]
    captioned = [{"image": {"bytes": picture(k), "path": None}, "caption": f"number {k}"} for k in range(4)]
    stsb = [("main", "MSRvid", "2012test", k, f"{k}.5", f"a girl {k}", f"a boy {k}") for k in range(4)]
    sick = [("pair_ID", "sentence_A", "sentence_B", "relatedness_score"), *((k, "a kid", "a boy", "3.3") for k in "12")]
    questions = [("qid1", "qid2", "question1", "question2", "is_duplicate"), *((k, k, "how", "why", 1) for k in "12")]
    paraphrases = [
        ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        *((1, k, k, "a boy", "a kid") for k in "12"),
    ]
    packed = [
        ("split", "genre", "score", "sentence1", "sentence2"),
        *((s, "g", 2.5, "a", "b") for s in ("train", "dev", "test")),
    ]
    subset = lines(("a b", "c d"), ("e f", "g h"))
    source = b'"""Words."""\n\n\ndef f(x):\n    """Say it."""\n    return [x, (x + 1) * 2]\n'
    return {
        "coco_panoptic": Format(coco(), lambda p: indexed(CocoPanoptic(str(p), "val")), 2),
        "coco_captions": Format(
            coco(), lambda p: indexed(CocoCaptions(str(p / "val2017"), str(p / "annotations/captions_val2017.json"))), 2
        ),
        "coco_instances": Format(
            instances(), lambda p: indexed(CocoInstances(str(p / "images"), str(p / "instances.json"))), 2
        ),
        "mask_folder": Format(pairs(), lambda p: indexed(MaskFolder(str(p / "images"), str(p / "masks"))), 3),
        "prompts": Format(
            {"geneval.jsonl": jsonl({"prompt": f"a bench {k}", "tag": "one"} for k in range(4))},
            lambda p: ([(row["prompt"],) for row in read_prompts(str(p / "geneval.jsonl"))], 0),
            4,
        ),
        "prompt_folder": Format(
            {f"dpg/{k}.txt": f"a bench {k}\n".encode() for k in range(4)},
            lambda p: ([(row["prompt"],) for row in read_prompts(str(p / "dpg"))], 0),
            4,
        ),
        "sa1b": Format(folder_of_masks, lambda p: indexed(SA1B(str(p))), 3),
        "sa1b_tar": Format({"sa_000000.tar": tar(folder_of_masks)}, lambda p: indexed(SA1B(str(p))), 3, sealed=True),
        "captioned_tars": Format({"0.tar": tar(images)}, lambda p: indexed(CaptionedTars(str(p))), 4, sealed=True),
        "captioned_parquet": Format(
            {"data/train-0.parquet": parquet(captioned, row_group_size=3)},
            lambda p: indexed(CaptionedParquet(str(p))),
            4,
            sealed=True,
        ),
        "diffusiondb": Format(written(diffusiondb), lambda p: indexed(DiffusionDB(str(p))), 4, sealed=True),
        "video_tars": Format({"0.tar": tar(videos)}, read_videos, 3, sealed=True),
        "imagenet": Format(
            {
                **{f"val/n0{k % 2}/{k}.JPEG": picture(k) for k in range(4)},
                "LOC_synset_mapping.txt": b"n00 tench, Tinca\nn01 goldfish\n",
            },
            lambda p: indexed(ImageNet(str(p), "val")),
            4,
        ),
        "image_parquet": Format(
            {"train-0.parquet": parquet(encoded)}, lambda p: indexed(ImageParquet(str(p / "*.parquet"))), 4, sealed=True
        ),
        "stack": Format(
            {"a.parquet": parquet(repositories, row_group_size=2)},
            lambda p: indexed(StackRepositories(str(p / "*.parquet"))),
            6,
            sealed=True,
        ),
        "glue_parquet": Format(
            {f"rte/{part}-00000-of-00001.parquet": parquet(hub_rows(4)) for part in ("train", "validation")},
            lambda p: splits(Glue("rte", str(p)), ("train", "val")),
            8,
            sealed=True,
        ),
        "glue_tsv": Format(
            {f"SST-2/{part}.tsv": lines(("sentence", "label"), ("good", 1), ("bad", 0)) for part in ("train", "dev")},
            lambda p: splits(Glue("sst2", str(p)), ("train", "val")),
            4,
        ),
        "cola_tsv": Format(
            {
                f"CoLA/{part}.tsv": lines(("gj04", 1, "", "It is."), ("gj04", 0, "*", "Is it it."))
                for part in ("train", "dev")
            },
            lambda p: splits(Glue("cola", str(p)), ("train", "val")),
            4,
        ),
        "goemotions": Format(
            {
                "labels.txt": b"joy\nlove\nneutral\n",
                **{
                    f"{part}.tsv": lines(("so happy", 0, "id1"), ("well", "2", "id2"))
                    for part in ("train", "dev", "test")
                },
            },
            lambda p: splits(GoEmotions(str(p))),
            6,
        ),
        "emo_pillars": Format(
            {
                file: b'{"plot_id": 1, "utterance": "so happy", "all_emotions": [["joy", 0.9], ["fear", 0.1]]}\n' * 2
                for file in EMO_PILLARS.values()
            },
            lambda p: splits(EmoPillars(str(p))),
            6,
        ),
        "isear": Format(
            {"isear.csv": b'joy,"so happy, and well"\n' * 10 + b"Fear,who is there\n" * 10},
            lambda p: splits(Isear(str(p))),
            20,
        ),
        "emocontext": Format(
            {
                f"{part}.txt": lines(("id", "turn1", "turn2", "turn3", "label"), (0, "hi", "well", "so happy", "happy"))
                for part in ("train", "dev", "test")
            },
            lambda p: splits(EmoContext(str(p))),
            3,
        ),
        "stsb": Format(
            {f"sts-{part}.csv": lines(*stsb) for part in ("train", "dev", "test")},
            lambda p: splits(STSBenchmark(str(p))),
            12,
        ),
        "stsb_packed": Format(
            {"stsbenchmark.tsv.gz": gzip.compress(lines(*packed))},
            lambda p: splits(STSBenchmark(str(p))),
            3,
            sealed=True,
        ),
        "semeval": Format(
            {
                f"STS13-en-test/STS.{kind}.{name}.txt": data
                for name in ("FNWN", "OnWN", "headlines")
                for kind, data in (("input", subset), ("gs", b"4.4\n0.8\n"))
            },
            lambda p: splits(SemEvalSTS(2013, str(p)), ("test",)),
            6,
        ),
        "semeval_tsv": Format(
            {
                f"2013/{name}.test.tsv": lines((4.5, "a b", "c d"), ("", "e", "f"))
                for name in ("FNWN", "OnWN", "headlines")
            },
            lambda p: splits(SemEvalSTS(2013, str(p)), ("train",)),
            6,
        ),
        "sick": Format(
            {f"SICK_{part}.txt": lines(*sick) for part in ("train", "trial", "test_annotated")},
            lambda p: splits(Sick(str(p))),
            6,
        ),
        "qqp": Format(
            {
                f"quora-IR-dataset/classification/{part}_pairs.tsv": lines(*questions)
                for part in ("train", "dev", "test")
            },
            lambda p: splits(PairTask("qqp", str(p)), ("val", "test")),
            4,
        ),
        "mrpc_corpus": Format(
            {
                "glue/MRPC/msr_paraphrase_test.txt": lines(*paraphrases),
                **{f"glue/MRPC/{part}.tsv": lines(*paraphrases) for part in ("train", "dev")},
            },
            lambda p: splits(PairTask("mrpc", str(p)), ("test",)),
            2,
        ),
        "code_search_net": Format(
            {f"go/{part}.jsonl": jsonl(functions) for part in ("train", "valid", "test")},
            lambda p: splits(CodeSearchNet(str(p), "go")),
            15,
        ),
        "code_search_net_gz": Format(
            {
                f"go/final/jsonl/{part}/{part}_0.jsonl.gz": gzip.compress(jsonl(functions))
                for part in ("train", "valid", "test")
            },
            lambda p: splits(CodeSearchNet(str(p), "go")),
            15,
            sealed=True,
        ),
        "code_triplets": Format(
            {"train-0.parquet": parquet(triplets)},
            lambda p: splits(CodeTriplets(str(p / "*.parquet"), language="lang", held_out=1), ("train", "val")),
            5,
            sealed=True,
        ),
        "poj104": Format(
            {f"{part}.jsonl": jsonl(programs) for part in ("train", "valid", "test")},
            lambda p: splits(Poj104(str(p))),
            12,
        ),
        "big_clone_bench": Format(
            {
                "data.jsonl": jsonl({"func": f"void f{k}()", "idx": str(k)} for k in range(3)),
                **{f"{part}.txt": lines((0, 1, 1), (1, 2, 0)) for part in ("train", "valid", "test")},
            },
            lambda p: splits(BigCloneBench(str(p))),
            6,
        ),
        "zeshel": Format(zeshel(), read_zeshel, 1),
        "python_functions": Format({"a.py": source, "b/c.py": source}, read_code, 2),
        "stores": Format(written(arrays), read_store, 5, sealed=True),
    }
