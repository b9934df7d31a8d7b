"""degla: which arms are compared, and the stages each of them consists of."""

from common.recipe import Arm, Recipe, Scale, Stage


def arms(scale: Scale) -> dict[str, Arm]:
    """A small student learns from labels, or from the answers of a teacher that was trained once for all seeds."""
    teacher = Stage("teacher", "projects.degla.train", shared=True)

    def student(**settings: object) -> Stage:
        return Stage("student", "projects.degla.train", settings)

    def evaluate(trained: Stage, width: int) -> Stage:
        return Stage(
            "evaluate",
            "projects.degla.train",
            {"model.weights": trained.weights, "model.width": width},
            run="test",
            shared=trained.shared,
        )

    labels = student()
    distilled = student(**{"model.teacher_weights": teacher.weights})
    return {
        "teacher": Arm([evaluate(teacher, 48)], "the teacher itself"),
        "labels": Arm([evaluate(labels, 8)], "the student learns from labels"),
        "distilled": Arm([evaluate(distilled, 8)], "the student learns from the teacher's answers", method=True),
    }


RECIPE = Recipe(
    title="The paper's title (degla)",
    modality="image classification",
    arms=arms,
    stand_ins="projects.degla.harness.rehearsal:make",
)
