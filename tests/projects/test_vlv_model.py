"""VLV's networks and losses: golden parity, closed forms, what gradients reach, padding, the clean-up of captions."""

import pytest
import torch
import transformers
from diffusers import DDPMScheduler
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from common.models.text_to_image import encode_embeddings, normalise
from projects.vlv.captions import clean_up
from projects.vlv.model import caption_logits, caption_loss, encode_captions, mlp, read
from tests.golden import golden_file
from tests.projects.vlv_small import captioner, language_model

GOLDEN = golden_file("vlv")
Tensors = dict[str, torch.Tensor]


def golden(case: str) -> tuple[Tensors, dict[str, str]]:
    """Tensors and settings of a golden case; skips where there is no file."""
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}: set GOLDEN_ROOT")
    with safe_open(GOLDEN, "pt") as file:
        start = f"{case}/"
        tensors = {k.removeprefix(start): file.get_tensor(k) for k in file.keys() if k.startswith(start)}  # noqa: SIM118
        settings = {k.removeprefix(start): v for k, v in file.metadata().items() if k.startswith(start)}
    return tensors, settings


def part(tensors: Tensors, prefix: str) -> Tensors:
    """A module's state."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def depth(state: Tensors, start: str) -> int:
    return 1 + max(int(k.removeprefix(start).split(".")[0]) for k in state if k.startswith(start))


def golden_text_encoder() -> transformers.CLIPTextModel:
    x, hp = golden("clip_text_from_embeds")
    state = part(x, "state.text_model.")
    vocabulary, width = state["embeddings.token_embedding.weight"].shape
    config = transformers.CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=len(state["encoder.layers.0.mlp.fc1.bias"]),
        num_hidden_layers=int(hp["num_layers"]),
        num_attention_heads=int(hp["num_heads"]),
        max_position_embeddings=int(hp["max_position_embeddings"]),
        hidden_act=hp["hidden_act"],
        layer_norm_eps=float(hp["layer_norm_eps"]),
    )
    model = transformers.CLIPTextModel(config)
    getattr(model, "text_model", model).load_state_dict(state)
    return model.eval()


def test_golden_text_encoder_over_embeddings():
    x, _ = golden("clip_text_from_embeds")
    encoder = golden_text_encoder()
    found = encode_embeddings(encoder, x["in.inputs_embeds"])
    torch.testing.assert_close(found, x["out.last_hidden_state"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, -1], x["out.pooled"], atol=1e-5, rtol=0)
    ids = encoder(input_ids=x["in.input_ids"]).last_hidden_state
    torch.testing.assert_close(ids, x["out.last_hidden_state_ids"], atol=1e-5, rtol=0)
    words = encoder.get_input_embeddings().weight[x["in.input_ids"]]
    torch.testing.assert_close(encode_embeddings(encoder, words), ids, atol=1e-6, rtol=0)


def golden_bart(x: Tensors, heads: int) -> transformers.BartModel:
    state = part(x, "state.bart.")
    vocabulary, width = state["shared.weight"].shape
    config = transformers.BartConfig(
        vocab_size=vocabulary,
        d_model=width,
        encoder_layers=depth(state, "encoder.layers."),
        decoder_layers=depth(state, "decoder.layers."),
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=len(state["encoder.layers.0.fc1.bias"]),
        decoder_ffn_dim=len(state["decoder.layers.0.fc1.bias"]),
        max_position_embeddings=len(state["encoder.embed_positions.weight"]) - 2,
        activation_function="gelu",
        scale_embedding=False,
    )
    model = transformers.BartModel(config)
    shared = {f"{side}.embed_tokens.weight": state["shared.weight"] for side in ("encoder", "decoder")}
    model.load_state_dict(state | shared)
    return model.eval()


def golden_qwen(x: Tensors, hp: dict[str, str]) -> transformers.Qwen2ForCausalLM:
    state = part(x, "state.qwen.")
    vocabulary, width = state["model.embed_tokens.weight"].shape
    config = transformers.Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=len(state["model.layers.0.mlp.up_proj.weight"]),
        num_hidden_layers=depth(state, "model.layers."),
        num_attention_heads=int(hp["qwen_heads"]),
        num_key_value_heads=int(hp["qwen_kv_heads"]),
        rms_norm_eps=float(hp["rms_norm_eps"]),
        rope_parameters={"rope_type": "default", "rope_theta": float(hp["rope_theta"])},
        tie_word_embeddings=True,
    )
    model = transformers.Qwen2ForCausalLM(config)
    model.load_state_dict(state | {"lm_head.weight": state["model.embed_tokens.weight"]})
    return model.eval()


def golden_mlp(state: Tensors) -> nn.Sequential:
    out, width = state["0.weight"].shape
    net = mlp(width, out)
    net.load_state_dict(state)
    return net


def test_golden_chain_from_visual_tokens_to_loss():
    x, hp = golden("vlv_chain")
    bart, qwen = golden_bart(x, int(hp["num_heads"])), golden_qwen(x, hp)
    near = {"atol": 2e-5, "rtol": 0}
    prompt = x["in.prompt_ids"]
    for k, row in enumerate(prompt):  # `read` takes one prompt for all pictures
        hidden = read(bart, x["in.image_features"][k : k + 1], row, x["in.query_embed"])
        torch.testing.assert_close(hidden[0], x["out.decoder_hidden"][k], **near)
    z = golden_mlp(part(x, "state.proj."))(x["out.decoder_hidden"])
    torch.testing.assert_close(z, x["out.caption_embedding_z"], **near)
    c = encode_embeddings(golden_text_encoder(), z)
    torch.testing.assert_close(c, x["out.clip_context_c"], **near)
    e = golden_mlp(part(x, "state.mlp.layers."))(c)
    torch.testing.assert_close(e, x["out.llm_prefix_e"], **near)
    ids = x["in.caption_ids"]
    mask = (ids != int(hp["pad_token_id"])).long()
    logits = caption_logits(qwen, e, ids, mask)
    seen = torch.cat([torch.ones(e.shape[:2]), mask], 1).bool()  # what stands at padding is nobody's business
    torch.testing.assert_close(logits[seen], x["out.logits"][seen], **near)
    torch.testing.assert_close(caption_loss(logits, ids, mask) / mask.sum(), x["out.loss"], **near)


def test_golden_noise_and_losses():
    x, hp = golden("denoise")
    scheduler = DDPMScheduler(
        int(hp["T"]),
        beta_start=float(hp["beta_start"]),
        beta_end=float(hp["beta_end"]),
        beta_schedule=hp["schedule"],
        prediction_type=hp["prediction"],
    )
    torch.testing.assert_close(scheduler.alphas_cumprod, x["out.alphas_cumprod"], atol=1e-5, rtol=0)
    noised = scheduler.add_noise(x["in.latent"], x["in.noise"], x["in.t"])
    torch.testing.assert_close(noised, x["out.noised"], atol=1e-5, rtol=0)
    torch.testing.assert_close(F.mse_loss(x["in.pred"], x["in.noise"]), x["out.loss_mse"], atol=1e-5, rtol=0)
    torch.testing.assert_close(F.l1_loss(x["in.pred"], x["in.noise"]), x["out.loss_l1"], atol=1e-5, rtol=0)


def test_golden_normalisation_of_pixels():
    x, _ = golden("normalize")
    torch.testing.assert_close(normalise(x["in.image"]), x["out.x"], atol=1e-5, rtol=0)


def test_golden_clean_up():
    _, pairs = golden("process_caption")
    count = sum(k.startswith("in.") for k in pairs)
    assert count
    for k in range(count):
        assert clean_up(pairs[f"in.{k}"]) == pairs[f"out.{k}"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("A cat. A cat. A dog", "A cat."),
        ("A cat! A dog? A cat!", "A cat! A dog?"),  # no full stop: nothing counts as unfinished
        ("A cat. A dog!", "A cat."),
        ("", ""),
        ("red block northwest", "red block northwest"),
    ],
)
def test_the_clean_up_drops_what_is_unfinished_or_was_said_and_does_so_once(said, kept):
    assert clean_up(said) == kept
    assert clean_up(kept) == kept


def test_counts_of_parameters_at_the_paper_s_sizes():
    with torch.device("meta"):
        count = {
            name: sum(p.numel() for p in mlp(1024, out).parameters()) for name, out in (("phi", 1024), ("psi", 2048))
        }
    assert count == {"phi": 2_099_200, "psi": 6_295_552}


def test_a_query_sees_no_later_query():
    torch.manual_seed(0)
    bart = captioner().encoder.florence.language_model.eval()
    queries, visual, prompt = torch.randn(1, 4, 16), torch.randn(2, 5, 16), torch.tensor([3, 4])
    changed = queries.clone()
    changed[:, 2:] = torch.randn(1, 2, 16)
    before, after = (read(bart, visual, prompt, q) for q in (queries, changed))
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:], atol=1e-3)
    other = read(bart, torch.randn(2, 5, 16), prompt, queries)
    assert not torch.allclose(before[:, 0], other[:, 0], atol=1e-5)  # but every query sees the picture


def test_prefix_and_padding_are_not_asked_for():
    torch.manual_seed(0)
    model = language_model()
    ids, mask = torch.randint(3, 20, (2, 5)), torch.ones(2, 5, dtype=torch.long)
    mask[1, 3:] = 0
    prefix = torch.randn(2, 3, model.config.hidden_size)
    logits = caption_logits(model, prefix, ids, mask)
    loss = caption_loss(logits, ids, mask)
    expected = sum(-logits[b, 2 + t].log_softmax(-1)[ids[b, t]] for b, t in mask.nonzero().tolist())
    torch.testing.assert_close(loss, expected)
    changed = logits.clone()
    changed[:, :2] += torch.randn(2, 2, logits.shape[-1])  # the last position of the prefix tells the first token
    torch.testing.assert_close(caption_loss(changed, ids, mask), loss)
    more = F.pad(ids, (0, 4), value=1), F.pad(mask, (0, 4))
    torch.testing.assert_close(caption_loss(caption_logits(model, prefix, *more), *more), loss)
    assert not torch.isclose(caption_loss(caption_logits(model, prefix + 1, ids, mask), ids, mask), loss)


def test_a_caption_ends_with_an_end_that_is_asked_for_even_where_padding_is_the_same_token():
    tokenizer = captioner().tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    ids, mask = encode_captions(tokenizer, ["red", "red block northwest"], 8)
    assert ids[0, 1] == tokenizer.eos_token_id and mask.sum(1).tolist() == [2, 4]
    cut, mask = encode_captions(tokenizer, ["red block northwest"], 2)
    assert cut.shape == (1, 2) and cut[0, -1] != tokenizer.eos_token_id
