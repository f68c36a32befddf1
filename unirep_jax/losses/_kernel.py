"""What every kernel shares: checked inputs in canonical dtypes, jit, and cross-entropy."""

import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from beartype import beartype
from jaxtyping import Array, Bool, Float, Int, Real, jaxtyped

from unirep_jax.losses.precision import accumulation_dtype


class Range(NamedTuple):
    """Which numbers a hyper-parameter may be, and how an error says it. NaN is in no range."""

    words: str
    holds: Callable[[float], bool]

    def __repr__(self) -> str:  # as signatures on the pages of the docs show it
        return self.words


_Number = float | int | Real[Array, ""]  # a traced Python int is an integer array
Scalar = Annotated[_Number, Range("finite", math.isfinite)]
Positive = Annotated[_Number, Range("positive and finite", lambda x: 0 < x < math.inf)]
NonNegative = Annotated[_Number, Range("at least 0 and finite", lambda x: 0 <= x < math.inf)]
Share = Annotated[_Number, Range("in [0, 1]", lambda x: 0 <= x <= 1)]

NEVER_EMPTY = {
    "class",
    "code",
    "expert",
    "head",
    "modality",
    "other",
    "piece",
}  # there is no answer without one


def kernel(*, static: tuple[str, ...] = ()) -> Callable:
    """Makes a kernel of a function: jitted, its inputs checked by its annotations.

    * Shapes are checked while tracing, and no axis of `NEVER_EMPTY` may be empty.
    * NumPy arrays and scalars become JAX arrays, also under `jax.disable_jit`. Masked arrays are
      refused: their mask would be dropped.
    * Integers of 8 and 16 bits become int32, whose ranges (`jnp.arange`) hold every class.
    * A hyper-parameter, which is a `Scalar` or of one of its ranges, takes the dtype in which the
      kernel accumulates: half precision does not round what is computed from it, and a float64 one
      does not widen what the arrays make float32.
    * A number is checked against the range; one in a JAX array is not, since reading it would wait
      for the device.

    `static` names the structural arguments; any other change of value reuses the compiled program.
    """

    def wrap(function: Callable) -> Callable:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
        ranges = {name: r for name, hint in hints.items() if (r := _range(hint))}
        positional = [
            name for name, p in signature.parameters.items() if p.kind == p.POSITIONAL_OR_KEYWORD
        ]
        checked = jaxtyped(function, typechecker=beartype)

        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            arguments = bound.arguments
            for name in arguments:
                convert = _static if name in static else _canonical
                arguments[name] = jax.tree.map(convert, arguments[name])
            arrays = [value for name, value in arguments.items() if name not in ranges]
            dtype = accumulation_dtype(*_float_arrays(arrays))
            for name in ranges.keys() & arguments.keys():
                arguments[name] = jax.tree.map(lambda x: jnp.asarray(x, dtype), arguments[name])
            _refuse_empty_axes(function.__name__, hints, arguments)
            return checked(*bound.args, **bound.kwargs)

        jitted = jax.jit(traced, static_argnames=static)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(x, np.ma.MaskedArray) for x in jax.tree.leaves((args, kwargs))):
                raise ValueError(f"{function.__name__}: a masked array; pass the mask as `where`")
            for name, value in (*zip(positional, args, strict=False), *kwargs.items()):
                number = name in ranges and isinstance(value, float | int | np.generic)
                if number and not ranges[name].holds(value):
                    message = f"{name} must be {ranges[name].words}, got {value}"
                    raise ValueError(f"{function.__name__}: {message}")
            try:
                return jitted(*args, **kwargs)
            except TypeError as error:
                if "custom_vjp" not in str(error):
                    raise
                message = "no forward mode (jax.jvp, jax.linearize, jax.jacfwd), only reverse mode"
                raise TypeError(f"{function.__name__} has {message} (jax.grad, jax.vjp)") from error

        for name in ("lower", "trace", "eval_shape", "clear_cache", "_cache_size"):
            setattr(call, name, getattr(jitted, name))  # what a jitted function offers
        return call

    return wrap


def _range(hint: Any) -> Range | None:
    """The range of a hyper-parameter, which may be optional; None of what is none."""
    members = (hint, *typing.get_args(hint))
    metadata = (m for member in members for m in getattr(member, "__metadata__", ()))
    return next((m for m in metadata if isinstance(m, Range)), None)


def _static(value: Any) -> Any:
    return int(value) if isinstance(value, np.integer) else value


def _canonical(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | np.generic):
        leaf = jnp.asarray(leaf)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.integer):
        return leaf.astype(jnp.int32) if leaf.dtype.itemsize < 4 else leaf
    return leaf


def _float_arrays(tree: Any) -> list[Array]:
    leaves = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _refuse_empty_axes(kernel_name: str, hints: dict[str, Any], arguments: dict[str, Any]) -> None:
    arrays = {name: value for name, value in arguments.items() if isinstance(value, jax.Array)}
    for name, array in arrays.items():
        for hint in (hints[name], *typing.get_args(hints[name])):
            for axis, place in _named_axes(getattr(hint, "dim_str", ""), array.ndim):
                if axis in NEVER_EMPTY and array.shape[place] == 0:
                    raise ValueError(f"{kernel_name}: {name} of shape {array.shape} has no {axis}")


def _named_axes(names: str, ndim: int) -> Iterator[tuple[str, int]]:
    """The axes of an array that jaxtyping's string names one by one; none of a misfit."""
    words = names.split()
    variadic = next((i for i, word in enumerate(words) if word.startswith("*")), None)
    if len(words) - (variadic is not None) > ndim or (variadic is None and len(words) != ndim):
        return
    for i, word in enumerate(words):
        if i != variadic:
            yield word.lstrip("#"), i if variadic is None or i < variadic else i - len(words)


def dot(left: Array, right: Array, subscripts: str, precision: str | None = None) -> Array:
    """einsum of two arrays accumulated in `accumulation_dtype`, whatever the inputs' precision."""
    return jnp.einsum(
        subscripts,
        left,
        right,
        precision=precision,
        preferred_element_type=accumulation_dtype(left, right),
    )


@kernel()
def cross_entropy(
    logits: Float[Array, "*lead query key"],
    target: Int[Array, "query"],
    where: Bool[Array, "*lead query key"] | None = None,
) -> Float[Array, "*lead query"]:
    """Cross-entropy of each query's target among the keys that count.

        ℓᵢ = −log( exp lᵢ_y / Σⱼ exp lᵢⱼ )

    Computed as log Σⱼ exp(lᵢⱼ − lᵢ_y): never negative, exactly 0 for one key, and small losses
    survive large logits.

    Args:
      logits: [..., query, key]. −∞ is a key that does not count.
      target: [query], in [0, key), the same for all leading axes.
      where: keys that count, the target among them.

    Returns:
      [..., query] in float32 or wider; 0 without any key that counts, and ∞ where the
      target's logit is −∞, both without gradient.
    """
    logits = logits.astype(accumulation_dtype(logits))
    # Selecting by comparison fuses with what follows; a gather would need a scatter backwards.
    chosen = target[:, None] == jnp.arange(logits.shape[-1], dtype=target.dtype)[None, :]
    chosen = jnp.expand_dims(chosen, tuple(range(logits.ndim - 2)))
    own = jnp.sum(jnp.where(chosen, logits, 0), axis=-1, keepdims=True)
    # x − x need not be 0 once the compiler fuses it, and −∞ minus −∞ is NaN.
    logits = jnp.where(chosen, 0, jnp.where(logits == -jnp.inf, logits, logits - own))
    if where is None:
        return jnp.where(own[..., 0] == -jnp.inf, jnp.inf, jax.nn.logsumexp(logits, axis=-1))
    some = where.any(-1, keepdims=True)
    logits = jnp.where(some, jnp.where(where, logits, -jnp.inf), 0)
    loss = jnp.where(own[..., 0] == -jnp.inf, jnp.inf, jax.nn.logsumexp(logits, axis=-1))
    return jnp.where(some[..., 0], loss, 0)


@kernel()
def negative_entropy(logits: Float[Array, "*lead class"]) -> Float[Array, "*lead"]:
    """Σ_c p_c log p_c of p = softmax(logits), where 0 log 0 = 0, with gradient 0."""
    log_p = jax.nn.log_softmax(logits.astype(accumulation_dtype(logits)), axis=-1)
    p = jnp.exp(log_p)
    return jnp.sum(p * jnp.where(p != 0, log_p, 0), axis=-1)  # true of NaN, which is no 0


@kernel()
def unit(vectors: Float[Array, "*lead dim"]) -> Float[Array, "*lead dim"]:
    """v / ‖v‖ in float32 or wider; the zero vector stays zero, with zero gradient."""
    vectors = vectors.astype(accumulation_dtype(vectors))
    # Scaling by the largest entry first keeps ‖v‖² from over- or underflowing.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True, initial=0.0))
    nonzero = largest != 0  # true of NaN, which must not pass for a zero
    scaled = vectors / jnp.where(nonzero, largest, 1)
    squared = jnp.sum(scaled * scaled, axis=-1, keepdims=True)
    return jnp.where(nonzero, scaled * jax.lax.rsqrt(jnp.where(nonzero, squared, 1)), 0)


@kernel(static=("axis_name",))
def masked_mean(
    values: Float[Array, "*shape"],
    where: Bool[Array, "*shape"] | None = None,
    *,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Σ where·values / Σ where, over all devices of `axis_name`; 0 when nothing is left.

    On N devices each one returns N·(its own sum) / (the count of all): the mean of these over the
    devices is the mean over the whole batch, and so `pmean` of their gradients is its gradient.
    """
    values = values.astype(accumulation_dtype(values))
    where = jnp.ones(values.shape, bool) if where is None else where
    total = jnp.sum(jnp.where(where, values, 0))
    count = jnp.sum(where, dtype=values.dtype)
    if axis_name is not None:
        total = total * jax.lax.axis_size(axis_name)
        count = jax.lax.psum(count, axis_name)
    return total / jnp.maximum(count, 1)
