"""VQRAE's tokenizer: continuous features to understand with, discrete tokens to draw with (§3.2)."""

from dataclasses import dataclass

from torch import Tensor, nn

from projects.vqrae.encoder import Decoder, EncoderConfig, build_encoder, side
from projects.vqrae.quantizer import SimVQ


@dataclass
class Codebook:
    """Sizes and kind of the quantiser.

    Attributes:
        size: number of codes k.
        dim: their dimension e; at least the encoder's width, the paper finds (§4.5).
        beta: weight of the codebook term of L_quant.
        kind: SimVQ; "plain" for codes that learn themselves; "none" for RAE's continuous latent.
    """

    size: int = 16384
    dim: int = 1536
    beta: float = 0.25
    kind: str = "simvq"


@dataclass
class Tokenized:
    """A batch on its way through the tokenizer.

    Attributes:
        features: Z_I, [B, N, d].
        codes: quantised tokens, [B, N, e].
        indices: of the codes, int64 [B, N]; None without a quantiser.
        loss: L_quant.
        images: reconstruction, [B, 3, S, S].
    """

    features: Tensor
    codes: Tensor
    indices: Tensor | None
    loss: Tensor
    images: Tensor


class VQRAE(nn.Module):
    """ViT encoder, projection to the codebook, quantiser, projection back, ViT decoder.

        tokenizer = VQRAE(EncoderConfig(hub="google/siglip2-so400m-patch16-256"), Codebook())
        tokenizer(images).images

    The paper does not state the projections' form: one linear layer each.

    Args:
        encoder: which ViT.
        codebook: which quantiser.
        pretrained: load the encoder's weights; False where a checkpoint will bring them.
    """

    def __init__(self, encoder: EncoderConfig, codebook: Codebook, pretrained: bool = True):
        super().__init__()
        self.encoder = build_encoder(encoder, pretrained)
        config = self.encoder.vit.config
        self.to_codes = nn.Linear(config.hidden_size, codebook.dim)
        self.quantizer = (
            None
            if codebook.kind == "none"
            else SimVQ(codebook.size, codebook.dim, codebook.beta, projected=codebook.kind == "simvq")
        )
        self.from_codes = nn.Linear(codebook.dim, config.hidden_size)
        self.decoder = Decoder(encoder.kind, config, pixels=side(config.patch_size))

    def forward(self, images: Tensor) -> Tokenized:
        """[B, 3, S, S] in [0, 1], all the way."""
        features = self.encoder(images)
        codes, indices, loss = self.quantize(features)
        return Tokenized(features, codes, indices, loss, self.decode(codes))

    def quantize(self, features: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Z_I [B, N, d] -> codes [B, N, e], indices [B, N], L_quant."""
        projected = self.to_codes(features)
        if self.quantizer is None:
            return projected, None, projected.new_zeros(())
        return self.quantizer(projected)

    def tokens(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] in [0, 1] -> the codes that stand for them, int64 [B, N]."""
        indices = self.quantize(self.encoder(images))[1]
        assert indices is not None, "a continuous latent has no indices"
        return indices

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, N, e] -> pictures [B, 3, S, S]."""
        return self.decoder(self.from_codes(codes))

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Stored or generated tokens, int64 [B, N] -> pictures [B, 3, S, S]."""
        assert self.quantizer is not None, "a continuous latent has no indices"
        return self.decode(self.quantizer.lookup(indices))
