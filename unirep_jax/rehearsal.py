"""The whole evaluation on a few examples before training, so that none is lost to what it refuses.

What is evaluated is the network as it is drawn, by the task with its shortest probes. Everything
else is as it will be: measurements, baselines, figures, tables and files.
"""

import shutil
import time
import traceback
from pathlib import Path

import jax
from ml_collections import ConfigDict
from threadpoolctl import threadpool_limits

from unirep_jax.data import FeatureFileError, FeatureSet
from unirep_jax.data.sample import few
from unirep_jax.evaluation.measurements import read_measurements
from unirep_jax.pretrain import untrained
from unirep_jax.ready import set_up
from unirep_jax.result_files import RESULTS, write_results
from unirep_jax.terminal import say
from unirep_jax.train.checkpoints import CheckpointError
from unirep_jax.train.processes import is_first, own_folder
from unirep_jax.workdir import ConfigError

# Of each class and part. A few may be too few for a split that all of them allow; then more are
# tried, and in the end all, so that nothing is refused here which can be evaluated.
EXAMPLES = (4, 32, 0)


def rehearse(config: ConfigDict, data: FeatureSet, workdir: Path) -> None:
    """Evaluates the untrained network on a few of the data, in a folder that is removed again.

    Nothing that a run depends on is touched. Several processes do the same, each for itself.

    Raises:
      ConfigError: what the evaluation would end with, in one line.
      ConfigError, FeatureFileError: as `set_up`.
    """
    began, folder = time.monotonic(), own_folder(workdir) / "rehearsal"
    for count in EXAMPLES:
        part = few(data, count)
        try:
            _rehearse(config, part, count, folder)
            break
        except (MemoryError, jax.errors.JaxRuntimeError):
            raise
        except (OSError, UnicodeError) as error:  # whatever the number of examples
            raise _refusal(error) from error
        except Exception as error:
            if part is data:
                raise _refusal(error) from error
    if is_first():
        say(f"rehearsed the evaluation in {time.monotonic() - began:.0f} s")


def _rehearse(config: ConfigDict, data: FeatureSet, count: int, folder: Path) -> None:
    small = config.copy_and_resolve_references()
    small.steps, small.batch_size = 0, 1  # no batch is drawn, of a size that few may not have
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True)
    try:
        ready = set_up(small, folder, untrained, data)
        state = jax.tree.map(jax.numpy.asarray, ready.fitting.initial())
        trained = ready.trained(config, state, folder, examples=count)
        with threadpool_limits(1, user_api="openmp"):  # a map of few points waits for threads
            write_results(ready.task.rehearsal(), trained)
        ready.task.tables(read_measurements(folder / RESULTS))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refusal(error: Exception) -> Exception:
    """In one line what was refused; of what nothing refuses in words, also where it was."""
    if isinstance(error, ConfigError | FeatureFileError | CheckpointError):  # of the set-up
        return error
    if isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError):
        text = str(error)
    else:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    return ConfigError(f"the evaluation would fail after training: {' '.join(text.split())}")
