"""What the tests of tasks share: a trained method that no training made."""

from types import SimpleNamespace

import numpy as np

from unirep_jax.tasks.task import Prepared, Trained, Way
from unirep_jax.train.step import TrainState


def as_it_is(data):
    """The data prepared for a method that reads them raw."""
    return Prepared(data, data, data, {m: (Way(None, m),) for m in data.modalities}, shown=data)


def trained(method, prepared, folder, *, name, params=None, state=None, seed=0, pretrain=None):
    """What a task evaluates, after no step; figures go to `folder`."""
    folder.joinpath("figures").mkdir(exist_ok=True)
    state = TrainState(np.int32(0), np.int32(seed), params or {}, (), state or {})
    return Trained(prepared, name, seed, state, SimpleNamespace(method=method), pretrain, folder)
