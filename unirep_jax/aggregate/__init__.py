"""What a memory holds that is like each query, for whole banks (C-MCR, eq. 2): a job."""

from unirep_jax.aggregate.job import Job, run
from unirep_jax.train.signals import Interrupted

__all__ = ["Interrupted", "Job", "run"]
