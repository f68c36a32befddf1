"""What the methods of a table cost: parameters, arithmetic, memory and time, nothing trained."""

import tempfile
from pathlib import Path

import jax
from ml_collections import ConfigDict

from unirep_jax.dry_run import measure_step
from unirep_jax.evaluation.tables import markdown_table
from unirep_jax.pretrain import untrained
from unirep_jax.ready import load_settled, set_up
from unirep_jax.sweep import varied
from unirep_jax.workdir import ConfigError

COLUMNS = (
    "method",
    "parameters, M",
    "GFLOP a step",
    "memory, MiB",
    "ms a step",
    "s an epoch",
)


def cost_table(config: ConfigDict, variants: dict[str, dict]) -> str:
    """A row for each variant, as Markdown (Table 9 of MICU).

    Arithmetic and memory are XLA's count for one device: state, batch and what a step needs
    besides. Time is the median of a few steps; an epoch has as many as fit into the training set.

    Raises:
      ConfigError, FeatureFileError: as `experiment.run`, or a variant is not trained.
    """
    rows = []
    for title, settings in variants.items():
        data, single, _ = load_settled(varied(config, settings))
        if not single.steps:
            raise ConfigError(f"{title}: steps=0, there is no step to measure")
        with tempfile.TemporaryDirectory() as folder:
            ready = set_up(single, Path(folder), untrained, data)
        fitting = ready.fitting
        sizes = [leaf.size for leaf in jax.tree.leaves(jax.eval_shape(fitting.initial).params)]
        cost = measure_step(fitting, single.steps)
        epoch = fitting.examples // single.batch_size * cost.seconds
        rows.append(
            [
                title,
                f"{sum(sizes) / 1e6:.2f}",
                f"{cost.flops / 1e9:.2f}",
                f"{(cost.arguments + cost.besides) / 2**20:.0f}",
                f"{1e3 * cost.seconds:.1f}",
                f"{epoch:.1f}",
            ]
        )
    device = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    table = markdown_table(COLUMNS, rows)
    return f"Batches of {single.batch_size} on {device}.\n\n{table}"
