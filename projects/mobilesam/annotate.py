"""Have the teacher annotate images, as SAM annotated SA-1B: the labels of the arms that learn from masks.

    python -m projects.mobilesam.annotate predict --config projects/mobilesam/configs/mini/annotate.yaml

Writes `train/` and `val/` in SA-1B's format into the run folder. At paper scale SA-1B itself is such a set.
"""

import numpy as np
import torch
from torch import Tensor

from common.cli import main
from common.data.promptable import PromptableData, SceneBatch
from common.data.prompts import box_prompts, tight_boxes
from common.data.readers.sa1b import write_sa1b
from common.data.scene import Scene
from common.models.sam import postprocess_masks, predict_masks, scale_boxes
from projects.mobilesam.teacher import FrozenTeacher


class Annotator(FrozenTeacher):
    """Writes the teacher's mask of every object, prompted with the object's box.

    Args:
        teacher: sizes of the teacher SAM.
        teacher_weights: SAM's published checkpoint, or a foundation's weights.
    """

    def predict_step(self, batch: SceneBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        folder = self.run_dir / ("train", "val")[dataloader_idx]
        embeddings = self.embed(batch.images)
        for row, (index, scene) in enumerate(zip(batch.index.tolist(), batch.scenes, strict=True)):
            masks = self.masks(embeddings[row : row + 1], scene, batch.sizes[row])
            write_sa1b(folder, f"sa_{index}", scene.image, masks.cpu().numpy())

    @torch.no_grad()
    def masks(self, embedding: Tensor, scene: Scene, size: tuple[int, int]) -> Tensor:
        """The teacher's masks of a scene's objects at its own resolution, bool [K, H, W]; empty ones are left out."""
        shape = (scene.image.shape[0], scene.image.shape[1])
        if not len(scene.masks):
            return torch.zeros(0, *shape, dtype=torch.bool)
        image_size = self.sam.image_encoder.img_size
        boxes = box_prompts(scale_boxes(tight_boxes(np.asarray(scene.masks)), shape, image_size)).to(embedding.device)
        logits, _ = predict_masks(self.sam, embedding, boxes, multimask=False)
        masks = postprocess_masks(logits, image_size, size, shape)[:, 0] > 0
        return masks[masks.flatten(1).any(1)]


if __name__ == "__main__":
    main(
        Annotator,
        PromptableData,
        links=lambda parser: parser.link_arguments("data.image_size", "model.teacher.image_size"),
    )
