"""What every metric asks of its inputs; a wrong one raises ValueError naming the culprit."""

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int


def as_array(name: str, values: ArrayLike) -> np.ndarray:
    """`values` as an array; not a masked one, whose mask NumPy would drop."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: pass the entries that count, {name}[~mask]")
    return np.asarray(values)


def class_ids(name: str, values: ArrayLike, *, lowest: int) -> Int[np.ndarray, "example"]:
    """`values` as a vector of at least one integer, none below `lowest` (-1 admits "unknown")."""
    array = as_array(name, values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty vector, got shape {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got {array.dtype}")
    if array.min() < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {array.min()}")
    return array.astype(np.int64)


def finite_scores(name: str, values: ArrayLike) -> Float[np.ndarray, "example"]:
    """`values` as a float64 vector of at least one number, all finite."""
    array = as_array(name, values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty vector, got shape {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        place = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"{name}[{place}] is {array[place]}: scores must be finite")
    return array


def same_length(**arrays: np.ndarray) -> None:
    """All arrays have as many examples as the first."""
    (first, reference), *others = arrays.items()
    for name, array in others:
        if len(array) != len(reference):
            raise ValueError(
                f"{name} has {len(array)} examples, {first} has {len(reference)}: "
                "they must be of the same examples"
            )


def fraction(name: str, value: float) -> float:
    """`value` in (0, 1]."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value}")
    return float(value)


def boolean_vector(name: str, values: ArrayLike) -> Bool[np.ndarray, "example"]:
    """`values` as a vector of booleans; a traced one stays traced."""
    array = values if isinstance(values, jax.core.Tracer) else as_array(name, values)
    if array.ndim != 1 or array.dtype != np.bool_:
        raise ValueError(
            f"{name} must be a vector of booleans, got {array.dtype} of shape {array.shape}"
        )
    return array  # type: ignore[return-value]
