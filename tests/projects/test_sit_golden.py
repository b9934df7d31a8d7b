"""SiT against the golden vectors of the official code; shapes and hyperparameters come from the file."""

import ast
import re

import pytest
import torch
from safetensors import safe_open
from torch import nn

from projects.sit.backbone import Net, ScaledBlock, build
from projects.sit.losses import Weights, frd_loss, learning_rates
from projects.sit.model import (
    ReverseSlimming,
    Seen,
    Slimming,
    SlimViT,
    TokenSlimming,
    from_official,
    recovered,
    reverse_modules,
)
from tests.golden import golden_file


class Case:
    """A case of the file: tensors by name without the case's, and what it says of itself."""

    def __init__(self, name, tensors, said):
        self.tensors = {key.removeprefix(f"{name}/"): value for key, value in tensors if key.startswith(f"{name}/")}
        pairs = re.findall(r"(\w+)=(\[[^]]*\]|[^,]+)", said)
        self.said = {key: ast.literal_eval(value) for key, value in pairs}

    def __getitem__(self, name):
        return self.tensors[name]

    def state(self, prefix=""):
        start = f"state.{prefix}"
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}


@pytest.fixture
def case(request):
    file = golden_file("sit")
    if not file.exists():
        pytest.skip(f"no golden vectors at {file}; set GOLDEN_ROOT")
    with safe_open(file, "pt") as opened:
        tensors = [(key, opened.get_tensor(key)) for key in opened.keys()]  # noqa: SIM118
        return Case(request.param, tensors, opened.metadata()[request.param])


def near(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("case", ["tsm"], indirect=True)
def test_golden_token_slimming(case):
    module = TokenSlimming(case.said["dim"], case.said["kept"], case.said["hidden_ratio"])
    module.load_state_dict(case.state())
    near(module(case["in.x"]), case["out.y"])


@pytest.mark.parametrize("case", ["rtsm"], indirect=True)
def test_golden_reverse_slimming(case):
    said = case.said
    module = ReverseSlimming(said["dim"], said["kept"], said["recovered"], said["ratio"])
    module.load_state_dict(case.state())
    near(module(case["in.x"]), case["out.y"])


@pytest.mark.parametrize("case", ["block"], indirect=True)
def test_golden_block(case):
    said = case.said
    block = ScaledBlock(
        said["dim"], said["heads"], said["mlp_ratio"], said["qkv_bias"], norm_layer=nn.LayerNorm, skip=said["skip_lam"]
    )
    block.load_state_dict(case.state())
    near(block(case["in.x"]), case["out.y"])


@pytest.mark.parametrize("case", ["model"], indirect=True)
def test_golden_network_and_what_its_tokens_are_recovered_to(case):
    said = case.said
    net = Net(
        image_size=said["img"], patch=said["patch"], dim=said["embed"], heads=said["heads"], classes=said["classes"],
        depth=sum(said["stage_blocks"]), mlp_ratio=said["mlp_ratio"], skip=said["skip_lam"], stem="conv4",
    )  # fmt: skip
    student = SlimViT(build(net), Slimming(said["slim_after_blocks"], said["keeping_ratio"])).eval()
    assert [student.all, *dict.fromkeys(student.counts)] == said["kept"]
    counters = {k: v for k, v in student.state_dict().items() if k.endswith("num_batches_tracked")}
    student.load_state_dict(from_official(case.state()) | counters)
    reverse = reverse_modules(student)
    reverse.load_state_dict(case.state("rtsm."))
    seen = student.see(case["in.img"])
    near(seen.logits, case["out.logits"], 1e-4)
    near(student(case["in.img"]), case["out.logits"], 1e-4)
    for k, (slim, whole) in enumerate(zip(seen.tokens, recovered(seen.tokens, reverse), strict=True)):
        near(slim, case[f"out.eval_tokens.{k}"], 1e-4)
        near(whole, case[f"out.train_tokens.{k}"], 1e-4)


@pytest.mark.parametrize("case", ["frd_loss"], indirect=True)
def test_golden_loss_and_its_gradients(case):
    logits, tokens = (case[f"in.student_{name}"].requires_grad_() for name in ("logits", "tokens"))
    weights = Weights(case.said["lambda_token"], case.said["lambda_logits"], temperature=case.said["tau"])
    student = Seen(logits, None, list(tokens))
    teacher = Seen(case["in.teacher_logits"], None, list(case["in.teacher_tokens"]))
    terms = frd_loss(student, case["in.soft_labels"], teacher, weights)
    for found, name in (
        (terms.classes, "cls"),
        (terms.token, "token"),
        (terms.logits, "logits"),
        (terms.total, "total"),
    ):
        near(found, case[f"out.{name}"])
    terms.total.backward()
    near(logits.grad, case["out.grad_student_logits"])
    near(tokens.grad, case["out.grad_student_tokens"])


@pytest.mark.parametrize("case", ["lr"], indirect=True)
def test_golden_learning_rates(case):
    said, expected = case.said, case["out.backbone_rtsm"]
    found = [learning_rates(k, said["init_lr"], said["min_lr"], said["epochs"]) for k in range(len(expected))]
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected, rtol=0, atol=1e-12)
