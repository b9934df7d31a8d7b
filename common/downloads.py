"""What more than one recipe asks its user to download."""

from common.recipe import Download

GOEMOTIONS = Download(
    name="GoEmotions: 58,000 Reddit comments with 27 emotions or none",
    path="$DATA_ROOT",
    source="github.com/google-research/google-research, folder goemotions/data",
    gigabytes=0.005,
    licence="CC BY 4.0",
    layout="train.tsv, dev.tsv, test.tsv (comment, class indices, comment id) and labels.txt or emotions.txt",
)
INCEPTION = Download(
    name="Inception for FID",
    path="$WEIGHTS_ROOT/pt_inception-2015-12-05-6726825d.pth",
    source="github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    gigabytes=0.09,
    licence="Apache-2.0",
)
