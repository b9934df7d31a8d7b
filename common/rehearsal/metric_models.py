"""Stand-ins for the networks of metrics."""

from pathlib import Path
from unittest.mock import patch

import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def write_inception(file: Path) -> None:
    """Inception for the Frechet distance, as torch-fidelity's file, with random weights."""
    file.parent.mkdir(parents=True, exist_ok=True)
    loading = "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"
    with torch.random.fork_rng(devices=[]), patch(loading):
        torch.manual_seed(0)
        with patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
            torch.save(FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).state_dict(), file)
