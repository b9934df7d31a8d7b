"""Training samples of promptable segmentation: which masks are drawn, and loaders that other processes can run."""

import pickle

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from common.data.promptable import PromptableData, PromptSamples, random_view
from common.data.scene import Scene, SceneSource
from common.data.worlds.shapes import ShapeScenes
from common.errors import UserError


class Source(SceneSource):
    """One scene of 64x64: masks of the given rows, mask k being row k * 8 and the following."""

    def __init__(self, masks: np.ndarray):
        self.masks = masks

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Scene:
        return Scene(np.zeros((64, 64, 3), np.uint8), self.masks, "0")


def stripes(rows: list[int]) -> np.ndarray:
    """Horizontal stripes of that many rows, one in each eighth of the image."""
    masks = np.zeros((len(rows), 64, 64), bool)
    for k, height in enumerate(rows):
        masks[k, 8 * k : 8 * k + height] = True
    return masks


def drawn(masks: np.ndarray, instances: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], list[int]]:
    """A sample, and the number of the stripe that each of its masks is."""
    sample = PromptSamples(Source(masks), image_size=64, instances=instances).draw(0, np.random.default_rng(seed))
    first = sample["masks"].any(2).int().argmax(1)
    return sample, (first * 4 // 8).tolist()


def test_masks_are_drawn_without_replacement_while_they_last():
    for seed in range(5):
        assert sorted(drawn(stripes([8] * 6), 6, seed)[1]) == [0, 1, 2, 3, 4, 5]
    assert len({tuple(drawn(stripes([8] * 6), 3, seed)[1]) for seed in range(9)}) > 1
    assert sorted(drawn(stripes([8] * 2), 5)[1]) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_masks_that_vanish_at_low_resolution_are_never_drawn():
    for seed in range(5):
        assert set(drawn(stripes([8, 1, 8, 1]), 4, seed)[1]) == {0, 2}  # a row of 64 is a quarter of a low one


@pytest.mark.parametrize("masks", [stripes([]), stripes([1, 1])])
def test_where_there_is_nothing_to_segment_the_whole_image_is_the_mask(masks):
    sample, _ = drawn(masks, 2)
    assert sample["masks"].shape == (2, 16, 16) and sample["masks"].all()


def test_prompts_belong_to_their_masks():
    sample, stripe = drawn(stripes([8] * 6), 4)
    for k, (x, y) in zip(stripe, sample["coords"][:, 0].tolist(), strict=True):
        assert 8 * k <= y < 8 * (k + 1) and 0 <= x < 64
    centres = sample["boxes"][:, 1::2].mean(1)
    assert torch.allclose(centres, torch.tensor(stripe) * 8 + 3.5, atol=2)


def test_loaders_can_be_sent_to_other_processes():
    """Where workers are not forked (Python 3.14, macOS) all they need is pickled."""
    source = Source(stripes([8]))
    data = PromptableData(train=source, test=source, image_size=64, batch_size=1)
    data.trainer = type("Trainer", (), {"global_rank": 0, "world_size": 1})()
    data.unpicklable = lambda: None  # as a trainer and its model may be
    for loader in (*data.predict_dataloader(), *data.test_dataloader()):
        pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))


def test_lightning_moves_the_images_of_a_batch_and_leaves_its_scenes():
    data = PromptableData(test=ShapeScenes("test", 1, 64), image_size=64)
    data.trainer = type("Trainer", (), {"global_rank": 0, "world_size": 1})()
    (batch,) = data.test_dataloader()[0]
    moved = move_data_to_device(batch, torch.device("meta"))
    assert moved.images.device.type == "meta"
    assert moved.scenes is batch.scenes and moved.sizes == batch.sizes


def test_a_random_view_cuts_image_and_masks_alike():
    """Every pixel's colour says which mask it is in: that stays true in any crop and mirror image."""
    masks = np.zeros((3, 40, 60), bool)
    masks[0, :13], masks[1, 13:30, :20], masks[2, 35:, 50:] = True, True, True
    scene = Scene(
        np.repeat((masks * np.array([1, 2, 4])[:, None, None]).sum(0)[..., None], 3, 2).astype(np.uint8), masks, "0"
    )
    views = [random_view(scene, np.random.default_rng(seed), min_area=0) for seed in range(40)]
    for view in views:
        height, width = view.image.shape[:2]
        assert 20 <= height <= 40 and abs(width / height - 1.5) < 0.06
        colours = [set(view.image[..., 0][mask].tolist()) for mask in view.masks]
        assert all(len(found) == 1 for found in colours)
        assert set().union(*colours) == set(view.image[..., 0].ravel().tolist()) - {0}
    assert len({view.image.tobytes() for view in views}) > 20
    assert {len(random_view(scene, np.random.default_rng(0), min_area=0.9).masks)} == {0}


def test_stored_embeddings_and_augmentation_do_not_go_together():
    with pytest.raises(UserError, match="augment"):
        PromptableData(augment=True, embeddings="somewhere")
