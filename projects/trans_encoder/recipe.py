"""Trans-Encoder: what its arms need. The arms themselves are in `arms.py`."""

from common.recipe import Download, Recipe
from projects.trans_encoder.arms import arms

RECIPE = Recipe(
    title="Trans-Encoder: Unsupervised sentence-pair modelling through self- and mutual-distillations",
    modality="sentence pairs",
    arms=arms,
    arms_with=lambda data: arms("mini", ("sts_bert", "sts_roberta")),
    data={
        "sts": Download(
            name="SemEval STS 2012 to 2016 and SICK",
            path="$DATA_ROOT",
            source="github.com/brmson/dataset-sts, folder data/sts",
            gigabytes=0.01,
            licence="each subset under its source's terms; SICK: CC BY-NC-SA 3.0",
            layout="semeval-sts/<year>/<subset>.test.tsv, sick2014/SICK_{train,trial,test_annotated}.txt",
        )
    },
    downloads=(
        Download(
            name="SemEval STS 2012 to 2016",
            path="$DATA_ROOT/STS",
            source="SentEval's get_transfer_data script, ixa2.si.ehu.eus/stswiki",
            gigabytes=0.01,
            licence="each subset under its source's terms",
            layout="STS<yy>-en-test/STS.input.<subset>.txt and STS.gs.<subset>.txt, or <year>/<subset>.test.tsv",
        ),
        Download(
            name="STS benchmark",
            path="$DATA_ROOT/STS/STSBenchmark",
            source="ixa2.si.ehu.eus/stswiki (Stsbenchmark.tar.gz), or SentEval's get_transfer_data script",
            gigabytes=0.002,
            licence="its parts under their sources' terms",
            layout="sts-{train,dev,test}.csv, or stsbenchmark.tsv.gz",
        ),
        Download(
            name="Quora Question Pairs as sentence-transformers has them",
            path="$DATA_ROOT/quora-IR-dataset",
            source="sbert.net/datasets/quora-IR-dataset.zip",
            gigabytes=0.1,
            licence="Quora's terms of service",
            layout="classification/{train,dev,test}_pairs.tsv",
        ),
        Download(
            name="GLUE's QNLI and MRPC",
            path="$DATA_ROOT/glue",
            source="nyu-mll/glue on the Hugging Face hub, folders qnli and mrpc",
            gigabytes=0.02,
            licence="QNLI: CC BY-SA 4.0; MRPC: Microsoft's research licence",
            layout="{qnli,mrpc}/{train,validation,test}-*.parquet",
        ),
        Download(
            name="SICK",
            path="$DATA_ROOT/SICK",
            source="SemEval 2014 task 1, or SentEval's get_transfer_data script",
            gigabytes=0.002,
            licence="CC BY-NC-SA 3.0",
            layout="SICK_{train,trial,test_annotated}.txt",
        ),
    ),
    disk=30,
    stand_ins="projects.trans_encoder.harness.rehearsal:make",
    gpu="a100-80g",
    plan="projects.trans_encoder.harness.plan:workload",
)
