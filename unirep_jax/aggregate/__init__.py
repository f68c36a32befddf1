"""Resumable soft nearest-neighbour aggregation over an embedding bank (C-MCR, eq. 2)."""

from unirep_jax.aggregate.job import Job, run
from unirep_jax.train.signals import Interrupted

__all__ = ["Interrupted", "Job", "run"]
