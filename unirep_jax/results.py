"""The evaluation of a trained method, and the files that it leaves in the folder of the run."""

from unirep_jax.data.mapped import replace_file
from unirep_jax.evaluation.measurements import write_measurements
from unirep_jax.model_files import FOLDER, save_model
from unirep_jax.tasks.task import Task, Trained

RESULTS = "results.jsonl"


def write_results(task: Task, trained: Trained) -> str:
    """Evaluates; writes model/, figures/, results.md and results.jsonl into `trained.workdir`.

    Returns:
      The table of results.md.

    Raises:
      ValueError: the settings do not fit the data, or nothing was measured.
    """
    folder = trained.workdir
    save_model(trained.model, folder / FOLDER)
    trained.figures.mkdir(exist_ok=True)
    measurements = task.evaluate(trained)
    if not measurements:
        raise ValueError("with these settings nothing of these data was measured")
    table = task.tables(measurements)
    replace_file(folder / "results.md", lambda stream: stream.write(table.encode()))
    write_measurements(folder / RESULTS, measurements)
    return table
