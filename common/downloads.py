"""What more than one recipe asks its user to download."""

from common.recipe import Download, HubModel

MINILM = HubModel("sentence-transformers/all-MiniLM-L6-v2", 0.09, "Apache-2.0")

GOEMOTIONS = Download(
    name="GoEmotions: 58,000 Reddit comments with 27 emotions or none",
    path="$DATA_ROOT",
    source="github.com/google-research/google-research, folder goemotions/data",
    gigabytes=0.005,
    licence="CC BY 4.0",
    layout="train.tsv, dev.tsv, test.tsv (comment, class indices, comment id) and labels.txt or emotions.txt",
    hub="google-research-datasets/go_emotions",
    files=("train.tsv", "dev.tsv", "test.tsv", "labels.txt", "emotions.txt", "simplified/*.parquet"),
)
INCEPTION = Download(
    name="Inception for FID",
    path="$WEIGHTS_ROOT/pt_inception-2015-12-05-6726825d.pth",
    source="github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    gigabytes=0.09,
    licence="Apache-2.0",
)

COCO_PANOPTIC = Download(
    name="COCO 2017 with panoptic annotations (or a part of it)",
    path="$DATA_ROOT",
    source="cocodataset.org: 2017 Train images, 2017 Val images, 2017 Panoptic Train/Val annotations",
    gigabytes=21,
    licence="annotations CC BY 4.0, images under their Flickr licences",
    layout="images/{train,val}2017/*.jpg, panoptic_segmentation/annotations/panoptic_{train,val}2017.json and "
    "folders of PNGs; or COCO's own {train,val}2017/*.jpg and annotations/panoptic_{train,val}2017{.json,/}",
)

SAM_VIT_H = Download(
    name="SAM ViT-H weights",
    path="$WEIGHTS_ROOT/sam_vit_h_4b8939.pth",
    source="the model checkpoints section of github.com/facebookresearch/segment-anything",
    gigabytes=2.56,
    licence="Apache-2.0",
)

MOBILE_SAM = Download(
    name="MobileSAM's published weights",
    path="$WEIGHTS_ROOT/mobile_sam.pt",
    source="dhkim2810/MobileSAM on the Hugging Face hub, or weights/ of github.com/ChaoningZhang/MobileSAM",
    gigabytes=0.04,
    licence="Apache-2.0",
)
