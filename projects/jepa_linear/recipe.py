"""Deep linear JEPA and MAE: which trainings are compared, and the stages each of them consists of."""

from collections.abc import Sequence
from typing import Any

from common.recipe import Arm, Recipe, Scale, Stage

DEPTHS = (1, 2, 3, 5, 8)
NOISE_DEPTH = 5
"""Of networks that are measured at one depth alone."""
MAE_RELU = 4.0
"""Times the linear network's time that MAE takes with a ReLU; JEPA's is in relu.yaml."""


def arms(scale: Scale) -> dict[str, Arm]:
    """The same at every scale, with larger networks at the paper's; a rehearsal needs two depths alone."""
    depths = DEPTHS if scale != "rehearsal" else DEPTHS[1:3]
    words = ", ".join(map(str, depths))
    return {
        "jepa_theory": Arm([solve("jepa")], "JEPA's equations, integrated for many features: no network"),
        "mae_theory": Arm([solve("mae")], "MAE's equations, integrated for many features: no network"),
        "jepa": trained("network", "jepa", depths, f"networks of depth {words}, trained by JEPA", method=True),
        "mae": trained("network", "mae", depths, f"networks of depth {words}, trained by MAE"),
        "jepa_static": trained("static", "jepa", [NOISE_DEPTH], "JEPA on samples of two noisy views"),
        "mae_static": trained("static", "mae", [NOISE_DEPTH], "MAE on samples of two noisy views"),
        "jepa_static_shallow": trained("static", "jepa", [1], "JEPA on two noisy views, an encoder of one matrix"),
        "jepa_temporal": trained("temporal", "jepa", [NOISE_DEPTH], "JEPA on samples of a process in time"),
        "mae_temporal": trained("temporal", "mae", [NOISE_DEPTH], "MAE on samples of a process in time"),
        "jepa_average": trained("average", "jepa", [NOISE_DEPTH], "JEPA, a moving average encodes the target"),
        "jepa_relu": trained("relu", "jepa", [NOISE_DEPTH], "JEPA with a ReLU after the first matrix"),
        "mae_relu": trained("relu", "mae", [NOISE_DEPTH], "MAE with a ReLU after the first matrix", longer=MAE_RELU),
        "jepa_unaligned": trained("unaligned", "jepa", [NOISE_DEPTH], "JEPA, the predictor begins at random"),
        "mae_unaligned": trained("unaligned", "mae", [NOISE_DEPTH], "MAE, the predictor begins at random"),
        "jepa_gradient": trained("unstopped", "jepa", [NOISE_DEPTH], "JEPA without the stop-gradient"),
    }


def solve(objective: str) -> Stage:
    return Stage("theory", "projects.jepa_linear.solve", {"model.objective": objective}, "test", shared=True)


def trained(
    name: str,
    objective: str,
    depths: Sequence[int],
    words: str,
    method: bool = False,
    longer: float | None = None,
) -> Arm:
    """Trainings at their depths, measured together. Every config is read after network.yaml."""
    runs = {}
    for depth in depths:
        overrides: dict[str, Any] = {"model.objective": objective, "model.depth": depth}
        overrides |= {"model.longer": longer} if longer else {}
        stage = Stage(name, "projects.jepa_linear.train", overrides, base="network")
        runs[f"data.runs.depth{depth}"] = stage.output("trajectory.safetensors")
    return Arm([Stage("evaluate", "projects.jepa_linear.evaluate", runs, "test")], words, method)


RECIPE = Recipe(
    title="How JEPA Avoids Noisy Features: The Implicit Bias of Deep Linear Self Distillation Networks",
    modality="theory of self-distillation",
    arms=arms,
    disk=1,
    stand_ins="projects.jepa_linear.harness.rehearsal:make",
    paper_on_cpu=True,
    plan="projects.jepa_linear.harness.plan:workload",
)
