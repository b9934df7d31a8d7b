"""Stand-ins for language models: the real classes and depths with widths of 32, random weights, a small tokenizer.

Depths stay real, so that a config that names layers runs as it is; lengths too.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedTokenizerBase

from common.rehearsal import tokenizers

WIDTH, HEADS, HIDDEN = 32, 4, 64
SIZES: dict[str, Any] = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "intermediate_size": HIDDEN}


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a model's config says about its tokenizer."""
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def save(folder: Path, *parts: Any) -> None:
    """`save_pretrained` of a model, its tokenizer, its image processor, ... into one folder."""
    for part in parts:
        part.save_pretrained(folder)


def bert(folder: Path, layers: int = 12, lower: bool = True, kind: str = "BertForPreTraining", **config: Any) -> None:
    tokenizer = tokenizers.wordpiece(lower)
    settings = transformers.BertConfig(**SIZES, **vocabulary(tokenizer), num_hidden_layers=layers, **config)
    save(folder, getattr(transformers, kind)(settings), tokenizer)


def distilbert(folder: Path, layers: int = 6) -> None:
    tokenizer = tokenizers.wordpiece(kind=transformers.DistilBertTokenizer)
    settings = transformers.DistilBertConfig(
        dim=WIDTH, n_heads=HEADS, hidden_dim=HIDDEN, n_layers=layers, **vocabulary(tokenizer)
    )
    save(folder, transformers.DistilBertForMaskedLM(settings), tokenizer)


def roberta(folder: Path, layers: int = 12, kind: str = "RobertaForMaskedLM", types: int = 1, **config: Any) -> None:
    tokenizer = tokenizers.byte_level(transformers.RobertaTokenizer, length=512)
    sizes = SIZES | {"num_hidden_layers": layers, "max_position_embeddings": 514, "type_vocab_size": types}
    settings = transformers.RobertaConfig(**sizes, **vocabulary(tokenizer), **config)
    save(folder, getattr(transformers, kind)(settings), tokenizer)


def xlm_roberta(folder: Path, layers: int = 24, kind: str = "XLMRobertaForMaskedLM", **config: Any) -> None:
    tokenizer = tokenizers.xlm_unigram()
    config |= {"num_hidden_layers": layers, "max_position_embeddings": 514, "type_vocab_size": 1}
    settings = transformers.XLMRobertaConfig(**SIZES, **vocabulary(tokenizer), **config)
    save(folder, getattr(transformers, kind)(settings), tokenizer)


def modernbert(folder: Path, layers: int = 22) -> None:
    special: dict[str, Any] = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]", "cls_token": "[CLS]"}
    special |= {"sep_token": "[SEP]", "bos_token": "[CLS]", "eos_token": "[SEP]"}
    trained = tokenizers.byte_level(lambda: transformers.RobertaTokenizer(**special))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained.backend_tokenizer,
        model_max_length=8192,
        model_input_names=["input_ids", "attention_mask"],
        **{name: token for name, token in special.items() if name not in ("bos_token", "eos_token")},
    )
    ids = vocabulary(trained) | {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    settings = transformers.ModernBertConfig(**SIZES, **ids, num_hidden_layers=layers)
    save(folder, transformers.ModernBertForMaskedLM(settings), tokenizer)


def sentence_transformer(folder: Path, encoder: Callable[[Path], None], length: int = 256) -> None:
    """The layout of sentence-transformers: encoder, mean pooling, unit length."""
    encoder(folder)
    modules = [("", "models.Transformer"), ("1_Pooling", "models.Pooling"), ("2_Normalize", "models.Normalize")]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": length, "do_lower_case": False}), encoding="utf-8"
    )
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling), encoding="utf-8")


def t5(folder: Path, layers: int = 12, gated: bool = False) -> None:
    """T5; `gated` for its version 1.1, Flan-T5 and T0: gated GELU, and an output layer of its own."""
    tokenizer = tokenizers.unigram()
    settings = transformers.T5Config(
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=HIDDEN,
        num_heads=HEADS,
        num_layers=layers,
        feed_forward_proj="gated-gelu" if gated else "relu",
        **vocabulary(tokenizer) | {"decoder_start_token_id": tokenizer.pad_token_id, "tie_word_embeddings": not gated},
    )
    save(folder, transformers.T5ForConditionalGeneration(settings), tokenizer)


def bart(folder: Path, layers: int = 6) -> None:
    tokenizer = tokenizers.byte_level(transformers.BartTokenizer, length=1024)
    settings = transformers.BartConfig(**bart_sizes(layers), **bart_vocabulary(tokenizer))
    save(folder, transformers.BartForConditionalGeneration(settings), tokenizer)


def bart_sizes(layers: int) -> dict[str, Any]:
    sides = ("encoder", "decoder")
    sizes: dict[str, Any] = {"d_model": WIDTH, "max_position_embeddings": 1024}
    for name, size in {"layers": layers, "attention_heads": HEADS, "ffn_dim": HIDDEN}.items():
        sizes |= {f"{side}_{name}": size for side in sides}
    return sizes


def bart_vocabulary(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """BART starts decoding with the end token, and ends it so."""
    end = tokenizer.eos_token_id
    return vocabulary(tokenizer) | {"decoder_start_token_id": end, "forced_eos_token_id": end}


def gpt2(folder: Path, layers: int = 12) -> None:
    tokenizer = tokenizers.byte_level(transformers.GPT2Tokenizer, length=1024)
    settings = transformers.GPT2Config(n_embd=WIDTH, n_head=HEADS, n_layer=layers, **vocabulary(tokenizer))
    save(folder, transformers.GPT2LMHeadModel(settings), tokenizer)


def llama(folder: Path, layers: int = 32) -> None:
    tokenizer = tokenizers.byte_level(transformers.LlamaTokenizer)
    settings = transformers.LlamaConfig(**SIZES, **vocabulary(tokenizer), num_hidden_layers=layers)
    save(folder, transformers.LlamaForCausalLM(settings), tokenizer)


def mistral(folder: Path, layers: int = 32, chat: bool = False) -> None:
    """Mistral; those that chat have a template, without a place for a system's message."""
    tokenizer = tokenizers.byte_level(transformers.LlamaTokenizer)
    if chat:
        tokenizer.chat_template = (
            "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
            "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        )
    settings = transformers.MistralConfig(
        **SIZES, **vocabulary(tokenizer), num_hidden_layers=layers, num_key_value_heads=2, head_dim=WIDTH // HEADS
    )
    save(folder, transformers.MistralForCausalLM(settings), tokenizer)


def qwen(folder: Path, layers: int, kind: str = "Qwen2", tied: bool = False, chat: bool = False) -> None:
    """Qwen2.5 (`kind` Qwen2) or Qwen3; those that chat have a template."""
    tokenizer = tokenizers.byte_level(transformers.Qwen2Tokenizer, ["<|im_start|>", "<|im_end|>"], length=32768)
    if chat:
        tokenizer.chat_template = (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )
    settings = getattr(transformers, f"{kind}Config")(
        **SIZES,
        **vocabulary(tokenizer),
        num_hidden_layers=layers,
        num_key_value_heads=2,
        head_dim=WIDTH // HEADS,
        tie_word_embeddings=tied,
    )
    save(folder, getattr(transformers, f"{kind}ForCausalLM")(settings), tokenizer)


def starcoder2(folder: Path, layers: int) -> None:
    tokenizer = _code_tokenizer()
    config = transformers.Starcoder2Config(
        **SIZES, **vocabulary(tokenizer), num_hidden_layers=layers, num_key_value_heads=2, tie_word_embeddings=True
    )
    save(folder, transformers.Starcoder2ForCausalLM(config), tokenizer)


def starcoder(folder: Path, layers: int) -> None:
    tokenizer = _code_tokenizer()
    config = transformers.GPTBigCodeConfig(
        n_embd=WIDTH, n_head=HEADS, n_inner=HIDDEN, n_layer=layers, n_positions=8192, **vocabulary(tokenizer)
    )
    save(folder, transformers.GPTBigCodeForCausalLM(config), tokenizer)


def _code_tokenizer() -> PreTrainedTokenizerBase:
    fill_in = ["<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>"]
    return tokenizers.byte_level(transformers.GPT2Tokenizer, fill_in)
