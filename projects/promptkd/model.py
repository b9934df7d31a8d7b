"""CLIP with learned prompts, and the student that imitates it on the teacher's class vectors.

teacher = PromptedClip(load_clip("ViT-L-14-quickgelu:openai"), "a photo of a {}.")
vectors = teacher.class_vectors(["cat", "sofa"])             # stored once: [N, D]
student = Student(load_clip("ViT-B-16-quickgelu:openai"), vectors)
logits = student(pictures)                                   # [B, N]; neither teacher nor text encoder is needed
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError
from common.models.clip import PADDING, Clip, prompted_image, prompted_text
from common.training.weights import State, load_weights

STD = 0.02  # of prompts at first
SENTENCE = "a photo of a {}."
Names = Sequence[str]


class Prompts(nn.Module):
    """Learned tokens of both towers, independent of each other.

    Attributes:
        visual: [depth, n, width]: after the patches, and at the input of the next blocks in their place.
        context: [n, text width]: the words before a class's name.
        text: [depth - 1, n, text width]: what takes their place at the input of the next blocks.
    """

    def __init__(self, visual: Tensor, context: Tensor, text: Tensor):
        super().__init__()
        self.visual, self.context, self.text = nn.Parameter(visual), nn.Parameter(context), nn.Parameter(text)


class PromptedClip(nn.Module):
    """A frozen CLIP with prompts in both towers: PromptSRC's teacher.

    Args:
        clip: an open_clip CLIP with an image transformer.
        sentence: what a class's name, {}, is put into. The words before it are what the first text prompts begin as;
            all others are drawn.
        depth: blocks, counted from the first, whose input has prompts of its own; a text tower of fewer blocks has
            them in all of its.
    """

    def __init__(self, clip: Clip, sentence: str = SENTENCE, depth: int = 9):
        super().__init__()
        before = sentence.split("{}")[0]
        if not before.strip() or sentence.count("{}") != 1:
            raise UserError(
                f"the sentence of the prompts is words and then a name's place, as '{SENTENCE}': '{sentence}'"
            )
        self.clip, self.sentence = clip.requires_grad_(False).eval(), sentence
        words = clip.net.token_embedding(self.between(clip.tokens([before]))[0]).detach()
        self.count = len(words)
        check_depth(clip, depth)
        width = prompt_width(clip)
        text_depth = min(depth, len(clip.net.transformer.resblocks))
        draw = [torch.randn(depth, self.count, width), torch.randn(text_depth - 1, self.count, words.shape[1])]
        self.prompts = Prompts(STD * draw[0], words.clone(), STD * draw[1])

    @classmethod
    def of(cls, clip: Clip, state: State, sentence: str) -> "PromptedClip":
        """With prompts that a training has left."""
        if "visual" not in state:
            raise UserError("these weights are no prompts: give what the stage of the teacher's prompts has left")
        found = cls(clip, sentence, len(state["visual"]))
        load_weights(found.prompts, state)
        return found.requires_grad_(False).eval()

    def between(self, ids: Tensor) -> Tensor:
        """Ids of a text [1, L] without its ends and what pads it: [1, n]."""
        end = self.clip.net.text_eos_id if self.clip.net.text_pool_type == "eos" else int(ids.max())
        return ids[:, 1 : int((ids[0] == end).nonzero()[0])]

    def images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] -> unit vectors [B, D]."""
        return F.normalize(
            prompted_image(self.clip.net.visual, self.clip.normalised(images), self.prompts.visual), dim=-1
        )

    def class_vectors(self, names: Names) -> Tensor:
        """Unit vectors of the names, with prompts in the place of the words before them: [N, D]."""
        return self.vectors_of(self.tokens(names))

    def tokens(self, names: Names, sentence: str | None = None) -> Tensor:
        """Ids of the names in a sentence, [N, L], without what pads all of them: the text tower never sees it."""
        ids = self.clip.tokens([(sentence or self.sentence).replace("{}", name) for name in names])
        return ids[:, : int((ids != PADDING).any(0).sum())]

    def vectors_of(self, ids: Tensor) -> Tensor:
        """Unit vectors of sentences by their ids [N, L], [N, D]."""
        ids = ids.to(self.prompts.context.device)
        embedded = self.clip.net.token_embedding(ids)
        context = self.prompts.context.expand(len(ids), -1, -1)
        embedded = torch.cat([embedded[:, :1], context, embedded[:, 1 + self.count :]], 1)
        return F.normalize(prompted_text(self.clip.net, ids, embedded, self.prompts.text), dim=-1)


class PlainClip(nn.Module):
    """A CLIP as it is, in the same words: a teacher without any training.

    Args:
        templates: sentences for a class's name, {}; class vectors are means over them.
    """

    def __init__(self, clip: Clip, templates: Sequence[str]):
        super().__init__()
        self.clip, self.templates = clip.requires_grad_(False).eval(), templates

    def images(self, images: Tensor) -> Tensor:
        return self.clip.images(images)

    def class_vectors(self, names: Names) -> Tensor:
        return self.clip.class_vectors(names, self.templates)


class Projector(nn.Sequential):
    """From the student's features to the teacher's space: linear layers, batch norm and ReLU between them.

    The official 1 x 1 convolutions over a picture of one pixel are linear layers.

    Args:
        inputs: D of the student.
        outputs: D of the class vectors.
        layers: linear layers; the paper has two.
    """

    def __init__(self, inputs: int, outputs: int, layers: int = 2):
        parts: list[nn.Module] = [nn.Linear(inputs, outputs)]
        for _ in range(layers - 1):
            parts += [nn.BatchNorm1d(outputs), nn.ReLU(), nn.Linear(outputs, outputs)]
        super().__init__(*parts)


class Student(nn.Module):
    """A CLIP's image tower with prompts and a projector, which names pictures by stored class vectors.

    Args:
        clip: the student's CLIP. Of its text tower nothing is used.
        vectors: unit class vectors W, [N, D].
        depth: blocks whose input has prompts of its own; 0 for none.
        count: prompts of a block.
        layers: of the projector.
        tower: whether the image tower's own weights are trained too; else they are frozen.
    """

    vectors: Tensor

    def __init__(
        self, clip: Clip, vectors: Tensor, depth: int = 9, count: int = 4, layers: int = 2, tower: bool = False
    ):
        super().__init__()
        check_depth(clip, depth)
        self.clip, self.tower = clip.requires_grad_(False).eval(), tower
        clip.net.visual.requires_grad_(tower)
        drawn = STD * torch.randn(depth, count, prompt_width(clip)) if depth else None
        self.prompts = None if drawn is None else nn.Parameter(drawn)
        self.projector = Projector(clip.dim, vectors.shape[1], layers)
        self.register_buffer("vectors", vectors.detach().clone())

    @classmethod
    def of(cls, clip: Clip, state: State) -> "Student":
        """With what a distillation has left: sizes follow from the tensors."""
        if "vectors" not in state:
            raise UserError("these weights are no student: give what the stage of distillation has left")
        prompts = state.get("prompts")
        depth, count = (0, 1) if prompts is None else prompts.shape[:2]
        layers = sum(key.startswith("projector") and state[key].ndim == 2 for key in state)
        tower = any(key.startswith("tower.") for key in state)
        student = cls(clip, torch.zeros_like(state["vectors"]), depth, count, layers, tower)
        load_weights(student.learned(), state)
        return student.eval()

    def train(self, mode: bool = True) -> "Student":
        """CLIP itself is never in training mode."""
        super().train(mode)
        self.clip.eval()
        return self

    def images(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] in [0, 1] -> unit vectors u_s in the class vectors' space, [B, D]."""
        seen, visual = self.clip.normalised(images), self.clip.net.visual
        found = visual(seen) if self.prompts is None else prompted_image(visual, seen, self.prompts)
        return F.normalize(self.projector(found), dim=-1)

    def logits(self, features: Tensor) -> Tensor:
        """u_s -> e^s u_s W^T, [B, N], with the student's own scale s."""
        return self.clip.scale * features @ self.vectors.T

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.images(images))

    def learned(self) -> nn.Module:
        """What is kept beside the CLIP: prompts, projector, class vectors, and the tower where it was trained."""
        kept = nn.Module()
        kept.register_parameter("prompts", self.prompts)
        kept.projector = self.projector
        kept.register_buffer("vectors", self.vectors)
        if self.tower:
            kept.tower = self.clip.net.visual
        return kept


def prompt_width(clip: Clip) -> int:
    return int(clip.net.visual.class_embedding.shape[0])


def check_depth(clip: Clip, depth: int) -> None:
    """UserError where the image tower has fewer blocks than are to have prompts, or is none that takes them."""
    if not hasattr(clip.net, "transformer") or not hasattr(clip.net.visual, "class_embedding"):
        raise UserError("prompts need a CLIP with an image transformer and a text transformer, as ViT-B-16")
    blocks = len(clip.net.visual.transformer.resblocks)
    if depth > blocks:
        raise UserError(f"prompts of depth {depth} do not fit an image tower of {blocks} blocks: lower the depth")
