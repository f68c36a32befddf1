"""What a memory holds that is like each query, for whole banks (C-MCR, eq. 2): a job."""

from unirep_jax.aggregate.job import Interrupted, Job, run

__all__ = ["Interrupted", "Job", "run"]
