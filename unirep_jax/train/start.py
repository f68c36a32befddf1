"""Training that starts from the weights of an earlier run, for other data or another loss."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from unirep_jax.train.step import TrainState


class Start(NamedTuple):
    """What training starts from.

    run: where it comes from, for errors. params, state: of the method. shapes: by modality, of one
    example. settings: of the method that made them.
    """

    run: str
    params: dict
    state: dict
    shapes: Mapping[str, tuple[int, ...]]
    settings: Mapping[str, Any]


def check_shapes(start: Start, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses data with a modality that the run did not have, or had in another shape.

    Args:
      shapes: by modality, of one example of the data.

    Raises:
      ValueError: in one line, naming the run, the modality and both shapes.
    """
    known = ", ".join(start.shapes)
    absent = [m for m in shapes if m not in start.shapes]
    kept = tuple(m for m in shapes if m in start.shapes)
    if absent:
        remedy = f': give --config.data.modalities="{kept}"' if len(kept) > 1 else ""
        raise ValueError(
            f"start.run: {start.run} was trained on {known}, not on {absent[0]!r}{remedy}"
        )
    for m, shape in shapes.items():
        if tuple(shape) != tuple(start.shapes[m]):
            raise ValueError(
                f"start.run: {start.run} has {m} of {tuple(start.shapes[m])}, "
                f"these data of {tuple(shape)}"
            )


def start_state(
    drawn: TrainState, start: Start, settings: Mapping[str, Any], modalities: Iterable[str]
) -> TrainState:
    """The state before step 0 with the parameters and the method's own state of a run.

    The number of the step and the optimiser begin anew; feature statistics and the count of steps
    that a method keeps are the run's, so a warm start is not repeated. What belongs to modalities
    of the run that the data lack is left out.

    Args:
      drawn: as it would be without the run.
      start: the run.
      settings: of the method that continues it.
      modalities: of the data.

    Raises:
      ValueError: the method has other parameters than the run, naming the first of them and the
        first setting that differs.
    """
    gone = {*start.shapes} - {*modalities}
    params, state = (
        _matched(ours, theirs, gone, start, settings)
        for ours, theirs in ((drawn.params, start.params), (drawn.state, start.state))
    )
    return drawn._replace(params=params, state=state)


def _matched(ours: Any, theirs: Any, gone: set[str], start: Start, settings: Mapping) -> Any:
    """The leaves of `theirs` in the tree of `ours`."""
    found: dict[str, Any] = {keystr(path): leaf for path, leaf in tree_flatten_with_path(theirs)[0]}
    wanted, tree = tree_flatten_with_path(ours)
    leaves = []
    for path, leaf in wanted:
        value = found.pop(keystr(path), None)
        if leaf.shape == () and np.shape(value) == (1,):  # so older models keep a number
            value = value[0]
        if value is None or np.shape(value) != leaf.shape:
            has = "none" if value is None else str(np.shape(value))
            raise _unlike(start, keystr(path), f"{leaf.shape} here, {has} there", settings)
        leaves.append(jnp.asarray(value, leaf.dtype))
    extra = [name for name in found if not any(_names(name, m) for m in gone)]
    if extra:
        raise _unlike(start, extra[0], "none here", settings)
    return jax.tree.unflatten(tree, leaves)


def _names(path: str, modality: str) -> bool:
    """Whether a part of the path is of the modality, as ['projections_audio'] is of audio."""
    parts = path.replace("'", "").strip("[]").split("][")
    return any(f"_{modality}_" in f"_{part}_" for part in parts)


def _unlike(start: Start, name: str, shapes: str, settings: Mapping) -> ValueError:
    differs = [
        f"; {key}={start.settings[key]!r} there, {value!r} here"
        for key, value in settings.items()
        if key in start.settings and start.settings[key] != value
    ]
    return ValueError(
        f"start.run: {start.run} does not fit the method: {name} {shapes}{''.join(differs[:3])}"
    )
