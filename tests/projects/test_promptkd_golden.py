"""PromptKD against the official code's outputs: losses, projector, prompts of both towers, weights of epochs."""

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from safetensors import safe_open

from common.models.clip import prompted_image, prompted_text
from projects.promptkd.losses import distillation_loss, epoch_weights, promptsrc_terms
from projects.promptkd.model import Projector
from tests.golden import golden_file

FILE = golden_file("promptkd")
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason=f"no golden vectors at {FILE}; set GOLDEN_ROOT")


class Case:
    """One case: `case["in.x"]` is a tensor, `case.hp("name")` a hyperparameter, `case.state()` a network's weights."""

    def __init__(self, name):
        with safe_open(FILE, "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(f"{name}/")}  # noqa: SIM118
            self.metadata, self.name = file.metadata(), name

    def __getitem__(self, key):
        return self.tensors[f"{self.name}/{key}"]

    def hp(self, key):
        return float(self.metadata[f"{self.name}/hp.{key}"])

    def state(self):
        start = f"{self.name}/state."
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def test_golden_kd_loss():
    case = Case("kd_loss")
    vectors = case["in.class_vectors"]
    feature = case["in.student_feature"].requires_grad_()
    student, taught = (torch.nn.functional.normalize(f, dim=-1) for f in (feature, case["in.teacher_image"]))
    scales = [case[f"in.{name}_scale"] for name in ("student", "teacher")]
    logits = [scale * f @ vectors.T for scale, f in zip(scales, (student, taught), strict=True)]
    close(logits[0], case["out.student_logits"])
    close(logits[1], case["out.teacher_logits"])
    temperature, weight = case.hp("temperature"), case.hp("kd_weight")
    close(distillation_loss(logits[0], logits[1], 1.0, temperature), case["out.kl"])
    loss = distillation_loss(logits[0], logits[1], weight, temperature)
    close(loss, case["out.loss"])
    loss.backward()
    close(feature.grad, case["out.grad_student_feature"])


def test_golden_projector():
    case = Case("projector")
    projector = Projector(int(case.hp("in_dim")), int(case.hp("out_dim")))
    names = {key: key.removeprefix("conv1.") for key in case.state()}
    state = {names[key]: value[:, :, 0, 0] if value.ndim == 4 else value for key, value in case.state().items()}
    projector.load_state_dict(state)
    close(projector.eval()(case["in.feature"]), case["out.eval"])
    close(projector.train()(case["in.feature"]), case["out.train"])
    close(projector[1].running_mean, case["out.running_mean_after"])
    close(projector[1].running_var, case["out.running_var_after"])


def test_golden_visual_prompts():
    case = Case("vision_deep_prompts")
    state, depth = case.state(), int(case.hp("prompt_depth"))
    prompts = [state.pop("VPT")]
    prompts += [state.pop(f"transformer.resblocks.{k}.VPT_shallow") for k in range(1, depth)]
    visual = VisionTransformer(
        image_size=int(case.hp("image_size")), patch_size=int(case.hp("patch")), width=int(case.hp("width")),
        layers=int(case.hp("layers")), heads=int(case.hp("heads")), mlp_ratio=4, output_dim=int(case.hp("output_dim")),
        act_layer=QuickGELU,
    )  # fmt: skip
    visual.load_state_dict(state)
    close(prompted_image(visual.eval(), case["in.image"], torch.stack(prompts)), case["out.feature"], 1e-4)


def test_golden_text_prompts():
    case = Case("text_deep_prompts")
    state, depth = case.state(), int(case.hp("prompt_depth"))
    prompts = torch.stack([state.pop(f"transformer.resblocks.{k}.VPT_shallow") for k in range(1, depth)])
    length, width, outputs = int(case.hp("length")), int(case.hp("width")), state["text_projection"].shape[1]
    sizes = {"context_length": length, "width": width, "heads": int(case.hp("heads")), "layers": int(case.hp("layers"))}
    net = open_clip.CLIP(
        outputs, {"image_size": 8, "patch_size": 8, "width": 8, "layers": 1, "head_width": 8},
        {**sizes, "vocab_size": length + 1}, quick_gelu=True,
    )  # fmt: skip
    tower = TextTransformer(**sizes, vocab_size=length + 1, output_dim=outputs, act_layer=QuickGELU)
    for name, value in state.items():
        assert name in tower.state_dict()
        net.get_parameter(name).data.copy_(value)
    sos, context, suffix = case["in.sos"], case["in.context"], case["in.suffix"]
    embedded = torch.cat([sos, context.expand(len(sos), -1, -1), suffix], 1)
    ids = torch.zeros(embedded.shape[:2], dtype=torch.long)
    ids[torch.arange(len(ids)), case["in.eot_index"]] = length  # the largest id ends a text
    close(prompted_text(net.eval(), ids, embedded, prompts), case["out.feature"], 1e-4)


def test_golden_promptsrc_loss():
    case = Case("teacher_promptsrc_loss")
    images, vectors, plain, texts = (
        torch.nn.functional.normalize(case[f"in.{name}"], dim=-1) for name in ("image", "text", "zs_image", "zs_text")
    )
    terms = promptsrc_terms(images, vectors, plain, texts, case["in.label"], torch.tensor(case.hp("scale")))
    close(terms.labels, case["out.ce"])
    weights = case.hp("text_weight"), case.hp("image_weight")
    close(weights[0] * terms.text, case["out.text"])
    close(weights[1] * terms.image, case["out.image"])
    close(terms.logits, case["out.logits"])
    close(terms.total(*weights), case["out.total"])


def test_golden_epoch_weights():
    case = Case("gpa_epoch_weights")
    found = epoch_weights(len(case["in.epochs"]), case.hp("mean"), case.hp("std"))
    torch.testing.assert_close(found, case["out.weights"], rtol=1e-9, atol=1e-300)
