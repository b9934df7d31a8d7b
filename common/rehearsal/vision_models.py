"""Stand-ins for image encoders and image-text models: the real classes, depths, patches and resolutions; narrow."""

from pathlib import Path
from typing import Any

import transformers

from common.rehearsal import tokenizers
from common.rehearsal.text_models import HEADS, HIDDEN, SIZES, WIDTH, bart_sizes, bart_vocabulary, save, vocabulary

NARROW: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
}  # where the width of the MLP is a multiple


def clip(folder: Path, patch: int, size: int = 224, layers: int = 12, text_layers: int = 12) -> None:
    tokenizer = tokenizers.clip_bpe()
    text = {**SIZES, **vocabulary(tokenizer), "num_hidden_layers": text_layers, "projection_dim": WIDTH}
    vision = {**SIZES, "patch_size": patch, "image_size": size, "num_hidden_layers": layers, "projection_dim": WIDTH}
    settings = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    save(folder, transformers.CLIPModel(settings), tokenizer, images)


def siglip(folder: Path, patch: int, size: int, layers: int = 12, version: int = 1) -> None:
    """SigLIP, and SigLIP 2 at a fixed resolution, which differs in its tokenizer (Gemma's) and weights alone."""
    if version == 2:
        tokenizer = tokenizers.byte_level(transformers.GemmaTokenizer, length=64)
    else:
        unigram = tokenizers.unigram()  # the released tokenizer is this one without SentencePiece
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=unigram.backend_tokenizer,
            model_max_length=64,
            pad_token="</s>",
            eos_token="</s>",
            unk_token="<unk>",
        )
    text = {**SIZES, **vocabulary(tokenizer), "num_hidden_layers": layers, "projection_size": WIDTH}
    vision = {**SIZES, "patch_size": patch, "image_size": size, "num_hidden_layers": layers}
    settings = transformers.SiglipConfig(text_config=text, vision_config=vision)
    images = transformers.SiglipImageProcessor(size={"height": size, "width": size})
    save(folder, transformers.SiglipModel(settings), tokenizer, images)


def dinov2(folder: Path, layers: int = 12) -> None:
    settings = transformers.Dinov2Config(**NARROW, mlp_ratio=2, num_hidden_layers=layers, patch_size=14, image_size=518)
    images = transformers.BitImageProcessor(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, do_convert_rgb=True
    )
    save(folder, transformers.Dinov2Model(settings), images)


def vit(folder: Path, patch: int = 16, size: int = 224, layers: int = 12, classes: int | None = None) -> None:
    """ViT; with its head where the release has one."""
    settings = transformers.ViTConfig(**SIZES, patch_size=patch, image_size=size, num_hidden_layers=layers)
    if classes:
        settings.num_labels = classes
    model = transformers.ViTForImageClassification(settings) if classes else transformers.ViTModel(settings)
    save(folder, model, transformers.ViTImageProcessor(size={"height": size, "width": size}))


def florence2(folder: Path, layers: int) -> None:
    """DaViT's four stages, and BART with 1000 location tokens; `layers` of its encoder and of its decoder."""
    special = {"image_token": "<image>"}
    tokenizer = tokenizers.byte_level(lambda: transformers.BartTokenizer(extra_special_tokens=special), length=1024)
    tokenizer.add_tokens([f"<loc_{i}>" for i in range(1000)])
    settings = transformers.Florence2Config(
        text_config={"model_type": "bart", **bart_sizes(layers), **bart_vocabulary(tokenizer)},
        vision_config={
            "embed_dim": [8, 16, 24, 32],
            "num_heads": [1, 2, 3, 4],
            "num_groups": [1, 2, 3, 4],
            "depths": [1, 1, 9, 1],
            "mlp_ratio": 2.0,
            "projection_dim": WIDTH,
        },
        image_token_id=tokenizer.image_token_id,
    )
    size = {"height": 768, "width": 768}
    images = transformers.CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False, image_seq_length=577)
    processor = transformers.Florence2Processor(images, tokenizer)
    save(folder, transformers.Florence2ForConditionalGeneration(settings), processor)


def blip(folder: Path, size: int = 384, layers: int = 12) -> None:
    """BLIP for captions: BERT's tokenizer with a token that begins the text."""
    tokenizer = tokenizers.wordpiece()
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    text = {**SIZES, **vocabulary(tokenizer), "sep_token_id": tokenizer.sep_token_id, "encoder_hidden_size": WIDTH}
    text |= {"num_hidden_layers": layers, "eos_token_id": tokenizer.sep_token_id, "projection_dim": WIDTH}
    vision = {**SIZES, "patch_size": 16, "image_size": size, "num_hidden_layers": layers}
    settings = transformers.BlipConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    images = transformers.BlipImageProcessor(size={"height": size, "width": size})
    save(folder, transformers.BlipForConditionalGeneration(settings), transformers.BlipProcessor(images, tokenizer))


def internvl(folder: Path, layers: int = 24, text_layers: int = 28) -> None:
    """InternVL 3 in transformers' own layout: InternViT at 448 pixels, and Qwen 2.5."""
    special = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = tokenizers.byte_level(lambda: transformers.Qwen2Tokenizer(extra_special_tokens=special), length=32768)
    text = {**SIZES, **vocabulary(tokenizer), "num_hidden_layers": text_layers, "num_key_value_heads": 2}
    settings = transformers.InternVLConfig(
        vision_config={**SIZES, "num_hidden_layers": layers},
        text_config={**text, "model_type": "qwen2"},
        image_token_id=tokenizer.get_vocab()["<IMG_CONTEXT>"],
    )
    images = transformers.GotOcr2ImageProcessor(size={"height": 448, "width": 448}, crop_to_patches=True)
    videos = transformers.InternVLVideoProcessor()
    processor = transformers.InternVLProcessor(images, tokenizer, videos)
    save(folder, transformers.InternVLForConditionalGeneration(settings), processor)


def sam(folder: Path, layers: int, taps: tuple[int, ...]) -> None:
    """SAM at 1024 x 1024 pixels; `taps` are the layers with global attention."""
    settings = transformers.SamConfig(
        vision_config={
            **NARROW,
            "mlp_dim": HIDDEN,
            "num_hidden_layers": layers,
            "global_attn_indexes": list(taps),
            "output_channels": WIDTH,
            "num_pos_feats": WIDTH // 2,
        },
        prompt_encoder_config={"hidden_size": WIDTH},
        mask_decoder_config={
            "hidden_size": WIDTH,
            "mlp_dim": HIDDEN,
            "iou_head_hidden_dim": WIDTH,
            "num_attention_heads": HEADS,
        },
    )
    save(folder, transformers.SamModel(settings), transformers.SamProcessor(transformers.SamImageProcessor()))
