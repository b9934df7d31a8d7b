"""Frozen nets that measure videos: which frames they see, at which size, and what is said of a missing one."""

import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEModel

from common.errors import UserError
from common.evaluators.videos import ClipSimilarity, VideoMAEFeatures


def test_videomae_takes_the_nearest_frames(tmp_path):
    sizes = VideoMAEConfig(
        image_size=8, patch_size=4, num_frames=4, tubelet_size=2, hidden_size=12,
        num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    )  # fmt: skip
    torch.manual_seed(0)
    VideoMAEModel(sizes).save_pretrained(tmp_path)
    features = VideoMAEFeatures(str(tmp_path))
    videos = torch.rand(2, 3, 10, 16, 16)
    found = features(videos)
    assert found.shape == (2, features.num_features) == (2, 12) and not found.requires_grad
    seen = videos.clone()
    seen[:, :, [1, 2, 4, 5, 7, 8]] = 0  # 0, 3, 6 and 9 are looked at
    torch.testing.assert_close(features(seen), found)
    seen[:, :, 3] = 0
    assert not torch.allclose(features(seen), found)


@pytest.mark.parametrize("net", [VideoMAEFeatures, ClipSimilarity])
def test_a_missing_net_is_named(net, tmp_path):
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        net(str(tmp_path / "nothing"))
