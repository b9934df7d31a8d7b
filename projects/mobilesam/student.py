"""The student: a small image encoder before SAM's prompt encoder and mask decoder."""

from dataclasses import replace

from segment_anything.modeling import Sam

from common.errors import UserError
from common.models.sam import SamConfig, build_sam
from common.models.sam_checkpoint import segmenter_state
from common.models.tiny_vit import TinyViT, TinyViTConfig, load_mobile_sam
from common.paths import expand
from common.training.weights import load_weights


def build_student(teacher: SamConfig, student: TinyViTConfig, vit: SamConfig | None = None) -> Sam:
    """A student with random weights, in the sizes of its teacher's prompt encoder and mask decoder.

    Args:
        student: sizes of its TinyViT.
        vit: sizes of a ViT that takes the TinyViT's place, as in Table 2; only those of its image encoder count.
    """
    if vit is None:
        return build_sam(teacher, image_encoder=TinyViT(student))
    ours = (vit.prompt_dim, vit.patch_size)
    if ours != (teacher.prompt_dim, teacher.patch_size):
        raise UserError(
            f"a ViT student with prompt_dim, patch_size {ours} for a teacher with "
            f"{(teacher.prompt_dim, teacher.patch_size)}: its embedding must have the teacher's shape"
        )
    return build_sam(teacher, build_sam(replace(vit, image_size=teacher.image_size)).image_encoder)


def load_student(sam: Sam, weights: str) -> Sam:
    """Fill a student from `mobile_sam.pt`, `sam_vit_*.pth`, a stage's weights or checkpoint; returns it."""
    return load_mobile_sam(sam, segmenter_state(expand(weights, "model.student_weights")))


def borrow_decoder(sam: Sam, teacher_weights: str) -> Sam:
    """Give a student its teacher's prompt encoder and mask decoder; returns it."""
    state = segmenter_state(expand(teacher_weights, "model.teacher_weights"))
    load_weights(sam.prompt_encoder, state, prefix="prompt_encoder.")
    load_weights(sam.mask_decoder, state, prefix="mask_decoder.")
    return sam
