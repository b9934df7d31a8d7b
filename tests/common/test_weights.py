"""Loading weights: formats, and messages for everything that may be wrong with a file."""

import os
import pickle
import warnings

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from common.errors import UserError
from common.training.weights import load_state, load_tied, load_weights, rooted


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def net(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def write(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".ckpt":
        torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {"lr": 0.1}, "loops": {}}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.ckpt"])
def test_every_format_gives_the_same_weights(name, tmp_path):
    source, target = net(), net()
    assert load_weights(target, write(source.state_dict(), tmp_path / name)) is target
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_wrapped_state_dicts(tmp_path):
    torch.save({"model": net().state_dict(), "epoch": 1}, tmp_path / "w.pth")
    assert list(load_state(tmp_path / "w.pth")) == list(net().state_dict())


def test_prefix_and_ignored_keys():
    source, target = net(), net()
    state = {f"student.{key}": value for key, value in source.state_dict().items()}
    state |= {"teacher.0.weight": torch.zeros(9), "student.head.weight": torch.zeros(1)}
    load_weights(target, state, prefix="student.", ignore=["head.*"])
    assert torch.equal(target[0].weight, source[0].weight)
    with pytest.raises(UserError, match="unexpected: head.weight"):
        load_weights(target, state, prefix="student.")
    with pytest.raises(UserError, match=r"None of its keys starts with 'model\.'"):
        load_weights(target, state, prefix="model.")


def test_misfits_are_listed_with_their_likely_cause():
    model = net()
    before = model[0].weight.clone()
    with pytest.raises(UserError, match=r"0\.weight is \[4, 2\], not \[3, 2\].*\(6 in all\).*another size") as caught:
        load_weights(model, net(4).state_dict())
    assert str(caught.value).startswith("the given state does not fit Sequential: of another shape:")
    with pytest.raises(UserError, match="missing: 1.weight, 1.bias, .*another version"):
        load_weights(model, {k: v for k, v in net().state_dict().items() if k.startswith("0.")})
    two = {f"{name}.{k}": v for name in ("student", "teacher") for k, v in net().state_dict().items()}
    with pytest.raises(UserError, match=r"under 'student\.', 'teacher\.': save the one that is meant"):
        load_weights(model, two)
    with pytest.raises(UserError, match="unexpected: a.b.*another model"):
        load_weights(model, {"a.b": torch.zeros(1)})
    assert torch.equal(model[0].weight, before)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no weight file at .*gone\.pt"):
        load_state(tmp_path / "gone.pt")
    with pytest.raises(UserError, match="no weight file at"):
        load_state(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused_and_not_run(legacy, tmp_path):
    canary = tmp_path / "canary"
    content = {**net().state_dict(), "extra": Evil(canary)}
    torch.save(content, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"evil\.pt is refused: .*could run code.*system"):
        load_state(tmp_path / "evil.pt")
    assert not canary.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_bare_pickle_is_refused_and_not_run(protocol, tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Evil(canary)}, protocol))
    with warnings.catch_warnings(), pytest.raises(UserError, match="is refused: .*could run code"):
        warnings.simplefilter("ignore")  # torch warns of the unusual protocol
        load_state(tmp_path / "evil.ckpt")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "legacy.pth"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_truncated_file(name, keep, tmp_path):
    path = tmp_path / name
    state = {"a": torch.randn(5000)}
    if name == "legacy.pth":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        write(state, path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(UserError, match="truncated or damaged"):
        load_state(path)


@pytest.mark.parametrize(
    ("name", "message"), [("w.pt", "not a PyTorch file"), ("w.safetensors", "truncated or damaged")]
)
@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100])
def test_something_else_altogether(name, message, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_state(tmp_path / name)


def test_no_state_dict(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "training.pt")
    for name in ("list.pt", "training.pt"):
        with pytest.raises(UserError, match="holds no state dict"):
            load_state(tmp_path / name)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: f"_orig_mod.module.{key}",
        lambda key: key.replace(".", "._orig_mod.", 1),
        lambda key: f"_fsdp_wrapped_module.{key}",
        lambda key: f"student.{key}",
        lambda key: f"model.net.{key}",
        lambda key: f"module.student._orig_mod.{key}",
    ],
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.ckpt"])
def test_names_may_carry_those_of_wrappers_and_stages(wrapped, name, tmp_path):
    source, target = net(), net()
    state = {wrapped(key): value for key, value in source.state_dict().items()}
    load_weights(target, write(state, tmp_path / name))
    assert torch.equal(target[0].weight, source[0].weight)
    load_weights(target, {**state, "student_head.bias": torch.zeros(1)} if "student." in next(iter(state)) else state)
    compiled = torch.compile(net())
    load_weights(compiled, state)
    assert torch.equal(compiled.state_dict()["_orig_mod.0.weight"], source[0].weight)


def test_an_average_of_weights_is_taken(tmp_path):
    source, target = net(), net()
    torch.save(torch.optim.swa_utils.AveragedModel(source).state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target[0].weight, source[0].weight)


def test_the_part_of_a_stage_is_found():
    state = {"student.a.b": 1, "student.c": 2, "loss.weight": 3}
    assert rooted(state, ["a.b"]) == {"a.b": 1, "c": 2}
    assert rooted(state, ["gone"]) is state and rooted(state, ["loss.weight"]) is state


def test_one_of_several_dictionaries_in_a_file(tmp_path):
    torch.save({"net": net().state_dict(), "optimizer": {"state": {}, "lr": 1}, "step": 3}, tmp_path / "w.pt")
    assert set(load_state(tmp_path / "w.pt")) == set(net().state_dict())
    torch.save({"student": net().state_dict(), "teacher": net().state_dict()}, tmp_path / "two.pt")
    with pytest.raises(UserError, match=r"several networks \(student, teacher\)"):
        load_state(tmp_path / "two.pt")


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("0.weight", lambda x: x.long(), r"0\.weight holds int64, where float32 belongs"),
        ("0.bias", lambda x: x > 0, r"0\.bias holds bool, where float32 belongs"),
        ("0.weight", lambda x: x * float("nan"), r"0\.weight has 6 values that are not finite, of 6"),
        ("1.running_var", lambda x: x / 0, r"1\.running_var has 3 values that are not finite"),
        ("1.num_batches_tracked", lambda x: x.float(), r"1\.num_batches_tracked holds float32, where int64 belongs"),
    ],
)
def test_values_of_another_kind_or_not_finite(key, change, message, tmp_path):
    model = net()
    before = model[0].weight.clone()
    state = net().state_dict()
    state[key] = change(state[key])
    for name in ("w.safetensors", "w.pt"):
        with pytest.raises(UserError, match=rf"{name}: {message}"):
            load_weights(model, write(state, tmp_path / name))
    assert torch.equal(model[0].weight, before)


def test_half_precision_and_masks_of_infinities_load():
    target = net()
    load_weights(target, net().half().state_dict())
    masked = nn.Module()
    masked.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1))
    load_weights(masked, {"mask": masked.mask.clone()})
    with pytest.raises(UserError, match="mask has 4 values that are not finite"):
        load_weights(masked, {"mask": masked.mask * torch.nan})


@pytest.mark.parametrize("change", [lambda x: x.to_sparse(), lambda x: x.to("meta")])
def test_tensors_without_plain_numbers_are_refused(change, tmp_path):
    state = net().state_dict()
    state["0.weight"] = change(state["0.weight"])
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"0\.weight holds no plain numbers"):
        load_weights(net(), tmp_path / "w.pt")


def test_a_dictionary_that_holds_itself_has_an_end(tmp_path):
    content: dict[str, object] = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds no state dict"):
        load_state(tmp_path / "w.pt")


class Tied(nn.Module):
    """Two names of one tensor, as a language model's embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.out = nn.Linear(5, 2)


def test_weights_whose_names_share_tensors_come_back(tmp_path):
    first, second = Tied(), Tied()
    save_model(first, str(tmp_path / "weights.safetensors"))
    with pytest.raises(UserError, match="missing: (embed|head).weight"):
        load_weights(second, tmp_path / "weights.safetensors")
    assert load_tied(second, tmp_path / "weights.safetensors") is second
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert second.head.weight is second.embed.weight
    second.head.weight = nn.Parameter(torch.zeros(5, 3))  # no longer one tensor: the file says nothing of the other
    with pytest.raises(UserError, match="missing"):
        load_tied(second, tmp_path / "weights.safetensors")
