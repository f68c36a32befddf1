"""Maps the per-device step over the accelerators: the only file that knows how many there are.

Of one process or of several: then every process places its own share of a batch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "device"
Step = Callable[[Any, Any], tuple[Any, Any]]


class Engine(NamedTuple):
    """A step over all devices, and the functions that move state and batches to and from them.

    step: (placed state, placed batch) -> (placed state, metrics); the state it is given is donated.
    place_state, place_batch: host arrays to the devices (replicated; this process's share of a
      batch, split along the first axis).
    fetch_state: the placed state as one copy on the host.
    compiled: (placed state, placed batch) -> the compiled step, to ask what it costs, and to be
      called with the same arguments as `step`, which would compile it again.
    devices: how many, over all processes.
    must_block: wait for every step before the next. Asynchronous collectives over several CPU
      devices deadlock on JAX 0.10.
    """

    step: Step
    place_state: Callable[[Any], Any]
    place_batch: Callable[[Any], Any]
    fetch_state: Callable[[Any], Any]
    compiled: Callable[[Any, Any], tuple[jax.stages.Compiled, Step]]
    devices: int
    must_block: bool


def make_engine(
    step: Step,
    *,
    parallel: str = "shard_map",
    devices: Sequence[jax.Device] | None = None,
    resident: Any = None,
) -> Engine:
    """The engine for a per-device `step(state, batch)` that communicates over the axis `AXIS`.

    Args:
      step: returns the same state and metrics on every device (it averages over `AXIS` itself).
      parallel: "shard_map" over a mesh, or "pmap".
      devices: by default all, of every process.
      resident: arrays that every device holds whole from now on; the step then is
        `step(state, batch, resident)`.
    """
    # In the order of the processes, so that their shares in this order are the whole batch.
    devices = sorted(
        jax.devices() if devices is None else devices, key=lambda d: (d.process_index, d.id)
    )
    must_block = len(devices) > 1 and devices[0].platform == "cpu"
    if parallel == "shard_map":
        return _shard_map_engine(step, devices, must_block, resident)
    if parallel == "pmap":
        return _pmap_engine(step, devices, must_block, resident)
    raise ValueError(f"parallel={parallel!r} is neither 'shard_map' nor 'pmap'")


def _shard_map_engine(step: Step, devices, must_block: bool, resident: Any) -> Engine:
    mesh = jax.sharding.Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    replicated, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))

    def place_state(state):
        # By way of the host: a placed array would share its buffer, which the step then donates.
        host = jax.tree.map(np.asarray, state)
        return jax.device_put(host, replicated, may_alias=False)

    kept = () if resident is None else (jax.device_put(resident, replicated),)
    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(P(), P(AXIS), *[P()] * len(kept)),
        out_specs=(P(), P()),
        check_vma=False,  # with it, gradients of replicated parameters arrive already summed
    )
    run = jax.jit(mapped, donate_argnums=0)
    return Engine(
        step=lambda state, batch: run(state, batch, *kept),
        place_state=place_state,
        place_batch=lambda batch: jax.make_array_from_process_local_data(
            split, _checked(batch, _local(devices))
        ),
        fetch_state=lambda state: jax.tree.map(np.array, state),  # no view: the step donates it
        compiled=partial(_compiled, run, kept),
        devices=len(devices),
        must_block=must_block,
    )


def _pmap_engine(step: Step, devices, must_block: bool, resident: Any) -> Engine:
    count = _local(devices)
    replicate = lambda tree: jax.tree.map(lambda x: np.stack([x] * count), tree)

    def split(x):
        return np.reshape(x, (count, x.shape[0] // count, *x.shape[1:]))

    def first(x):
        # The copy on one device of this process; its leading axis is 1 or none, by version.
        return np.array(x.addressable_data(0)).reshape(x.shape[1:])

    run = jax.pmap(step, axis_name=AXIS, devices=devices, out_axes=(0, None), donate_argnums=0)
    # Identity under pmap leaves one copy on every device, where it stays.
    keep = jax.pmap(lambda tree: tree, devices=devices)
    kept = () if resident is None else (keep(replicate(resident)),)
    return Engine(
        step=lambda state, batch: run(state, batch, *kept),
        place_state=replicate,
        place_batch=lambda batch: jax.tree.map(split, _checked(batch, count)),
        fetch_state=lambda state: jax.tree.map(first, state),
        compiled=partial(_compiled, run, kept),
        devices=len(devices),
        must_block=must_block,
    )


def _compiled(run: Any, kept: tuple, state: Any, batch: Any) -> tuple[jax.stages.Compiled, Step]:
    program = run.lower(state, batch, *kept).compile()
    return program, lambda state, batch: program(state, batch, *kept)


def _local(devices: Sequence[jax.Device]) -> int:
    """How many of them belong to this process."""
    return sum(device.process_index == jax.process_index() for device in devices)


def _checked(batch: Any, devices: int) -> Any:
    for leaf in jax.tree.leaves(batch):
        if leaf.shape[0] % devices:
            raise ValueError(f"a batch of {leaf.shape[0]} does not split over {devices} devices")
    return batch
