"""The evaluation of a trained method, and the files that it leaves in the folder of the run."""

from unirep_jax.data.mapped import replace_file
from unirep_jax.evaluation.measurements import write_measurements
from unirep_jax.model_files import FOLDER, save_model
from unirep_jax.tasks.results import printed_results, results_page
from unirep_jax.tasks.task import Task, Trained

RESULTS = "results.jsonl"


def write_results(task: Task, trained: Trained) -> str:
    """Evaluates; writes model/, figures/, results.md and results.jsonl into `trained.workdir`.

    Returns:
      Means, extremes and verdicts, for a terminal.

    Raises:
      ValueError: the settings do not fit the data, or nothing was measured.
    """
    folder = trained.workdir
    save_model(trained.model, folder / FOLDER)
    trained.figures.mkdir(exist_ok=True)
    measurements = task.evaluate(trained)
    if not measurements:
        raise ValueError("with these settings nothing of these data was measured")
    page = results_page(type(task), measurements, [trained.name])
    replace_file(folder / "results.md", lambda stream: stream.write(page.encode()))
    write_measurements(folder / RESULTS, measurements)
    return printed_results(type(task), measurements, [trained.name])
