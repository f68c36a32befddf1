"""What holds for every public kernel, by the table of examples in `every_kernel`."""

import inspect
import typing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_kernel import EXAMPLES, NO_KERNELS, SIZES, floats, total

from unirep_jax import losses

pytestmark = pytest.mark.filterwarnings("ignore:Some donated buffers")

MASKED = [(name, axis) for name, example in EXAMPLES.items() for axis in example.mask_axes()]


def kernel(name):
    return getattr(losses, name)


def float32(arrays):
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in arrays.items()}


def test_every_public_kernel_has_an_example():
    functions = {name for name in losses.__all__ if not inspect.isclass(getattr(losses, name))}
    assert functions == EXAMPLES.keys() | NO_KERNELS


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_every_argument_that_removes_rows_and_every_hyper_parameter(name):
    example, signature = EXAMPLES[name], inspect.signature(kernel(name))
    masks = {p for p in signature.parameters if "where" in p}
    assert masks <= set(example.masks), masks
    hyper = {
        p
        for p, hint in typing.get_type_hints(kernel(name), include_extras=True).items()
        if any(hasattr(m, "__metadata__") for m in (hint, *typing.get_args(hint)))
    }
    assert hyper <= set(example.options), hyper


# -- rows that are removed ---------------------------------------------------------------------


def derivatives(name, arrays, order=2):
    """Outputs, gradients, and those of the squared gradients: three trees, `order` of them full."""
    example = EXAMPLES[name]
    fixed = {k: jnp.asarray(v) for k, v in arrays.items() if k not in example.floats}
    values = {k: jnp.asarray(v) for k, v in arrays.items() if k in example.floats}
    with jax.debug_nans(True):  # not before, when what is removed may be NaN
        return _derivatives(name, values, fixed, order)


@partial(jax.jit, static_argnums=(0, 3))
def _derivatives(name, values, fixed, order):
    def outputs(values):
        return EXAMPLES[name].run(kernel(name), {**values, **fixed})

    def first(values):
        return jax.grad(lambda v: total(outputs(v)))(values)

    if not values or not floats(jax.eval_shape(outputs, values)):
        return outputs(values), {}, {}
    second = jax.grad(lambda v: total(first(v)))(values) if order == 2 else {}
    return outputs(values), first(values), second


def gone(length):
    """The places of an axis that are removed."""
    return np.arange(1, length, 2)


def poisoned(example, arrays, axis, poison):
    """The arguments with the axis masked out in part, and full of something there."""
    result = {}
    for name, array in arrays.items():
        places = [p for p, a in enumerate(example.axes(name)) if a == axis]
        for place in places:
            array = np.moveaxis(array.copy(), place, 0)
            array[gone(len(array))] = False if name in example.masks else poison(array.dtype)
            array = np.moveaxis(array, 0, place)
        result[name] = array
    return result


def deleted(example, arrays, axis):
    return {
        name: np.delete(array, gone(SIZES[axis]), example.axes(name).index(axis))
        if axis in example.axes(name)
        else array
        for name, array in arrays.items()
    }


def without_gone(array, shape):
    """The array without what is gone of the axes along which it is longer than the shape."""
    for place, (length, wanted) in enumerate(zip(array.shape, shape, strict=True)):
        if length != wanted:
            array = np.delete(array, gone(length), place)
    return array


def nan(dtype):
    return np.nan if np.issubdtype(dtype, np.floating) else 0


def infinity(dtype):
    return np.inf if np.issubdtype(dtype, np.floating) else 0


def zero(dtype):
    return 0


@pytest.mark.parametrize(("name", "axis"), MASKED)
def test_what_is_removed_may_hold_anything(name, axis, x64):
    """Value and gradient are those without it, also under `jax_debug_nans`; the second derivative
    is that with anything else in its place."""
    example = EXAMPLES[name]
    arrays = example.arrays()
    zeros = derivatives(name, poisoned(example, arrays, axis, zero))
    for poison in (nan, infinity):
        assert_same(derivatives(name, poisoned(example, arrays, axis, poison)), zeros)
    if not example.random:  # with other rows the draws are others
        assert_same(zeros[:2], derivatives(name, deleted(example, arrays, axis), order=1)[:2])


def assert_same(actual, expected):
    """Without what is gone of the axes along which `expected` is shorter."""
    for found, wanted in zip(floats(actual), floats(expected), strict=True):
        found = without_gone(np.asarray(found), wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "axis"), MASKED)
def test_what_is_removed_gets_no_gradient(name, axis, x64):
    example = EXAMPLES[name]
    _, first, second = derivatives(name, poisoned(example, example.arrays(), axis, nan))
    for key, gradient in (*first.items(), *second.items()):
        if axis in example.axes(key):
            assert not np.take(
                np.asarray(gradient), gone(SIZES[axis]), example.axes(key).index(axis)
            ).any(), key


# -- NaN and infinity --------------------------------------------------------------------------

NAN_IS_SAID_OTHERWISE = {
    ("cross_predictive_coding", "features"): "the first step is nobody's future",
    ("ema_codebook_update", "codebook"): "the new codebook is the ratio of the other two",
    ("enqueue", "queue"): "the oldest slot is overwritten",
    ("fairness", "confidence"): "not used",
    ("mix_classes", "features"): "mixed with one of the same class, it is left out",
    ("most_confident", "score"): "no float comes out: its `where` is false",
    ("nearest_code", "z"): "no float comes out, and no index says NaN: code 0",
    ("nearest_code", "codebook"): "as of a feature",
    ("nearest_correspondence", "mapped"): "the item is nobody's counterpart",
    ("nearest_pairs", "features"): "no float comes out: in no pair",
    ("nearest_pairs", "anchor_features"): "no float comes out: in no pair",
    ("pseudo_labels", "logits"): "no float comes out: not sure enough",
    ("pseudo_labels", "confidence"): "no float comes out: none is sure enough",
    ("pseudo_labels", "class_mean"): "no float comes out: none is sure enough",
    ("pseudo_labels", "histogram"): "not used",
    ("random_aggregate", "queries"): "only how many there are is used",
    ("random_aggregate", "memory"): "an item that is drawn comes out as it is",
    ("restart_dead_codes", "codebook"): "the code moves onto a feature",
    ("restart_dead_codes", "count"): "as the codebook",
    ("restart_dead_codes", "weight"): "as the codebook",
    ("restart_dead_codes", "z"): "a feature that is drawn comes out as it is",
}
FLOATS = [(name, argument) for name, example in EXAMPLES.items() for argument in example.floats]


def with_first(array, value):
    array = array.copy()
    array.flat[0] = value
    return array


def outputs(name, arrays, **options):
    return EXAMPLES[name].run(kernel(name), arrays, **options)


@pytest.mark.parametrize(("name", "argument"), FLOATS)
def test_nan_in_is_nan_out(name, argument):
    arrays = float32(EXAMPLES[name].arrays())
    result = outputs(name, {**arrays, argument: with_first(arrays[argument], np.nan)})
    told = any(np.isnan(x).any() for x in floats(result))
    assert told == ((name, argument) not in NAN_IS_SAID_OTHERWISE)


SCALARS = [
    (name, option)
    for name, example in EXAMPLES.items()
    for option, value in example.options.items()
    if isinstance(value, float)
]


@pytest.mark.parametrize(("name", "option"), SCALARS)
def test_a_hyper_parameter_of_nan_is_refused_or_gives_nan(name, option):
    arrays = float32(EXAMPLES[name].arrays())
    for value in (float("nan"), np.float32("nan")):
        with pytest.raises(ValueError, match=f"^{name}: {option} must be .*, got nan$"):
            outputs(name, arrays, **{option: value})
    if option == "threshold":
        return  # the loop ends at once, and what comes out says that it has not converged
    result = outputs(name, arrays, **{option: jnp.float32("nan")})
    assert any(np.isnan(x).any() for x in floats(result))


RANGES = {
    "temperature": (0.0, -0.5, np.inf),
    "epsilon": (-0.5, np.inf),
    "bandwidth": (0.0, -1.0),
    "damping": (0.0,),
    "concentration": (0.0,),
    "label_smoothing": (-0.1, 1.1),
    "decay": (-0.1, 1.1),
    "share": (-0.1, 1.1),
    "momentum": (-0.1, 1.1),
    "noise_epsilon": (-1e-3,),
    "threshold": (-1e-3,),
    "kl_weight": (np.inf,),
    "scale": (np.inf,),
    "weight": (-np.inf,),
    "margin": (np.inf,),
    "radius": (),
}


@pytest.mark.parametrize(("name", "option"), SCALARS)
def test_a_number_outside_the_range_of_a_hyper_parameter_is_refused(name, option):
    arrays = float32(EXAMPLES[name].arrays())
    for value in RANGES[option]:
        for number in (value, np.float64(value)):
            with pytest.raises(ValueError, match=f"^{name}: {option} must be .*, got {value}$"):
                outputs(name, arrays, **{option: number})


@pytest.mark.parametrize(
    ("name", "argument"),
    [x for x in FLOATS if "logits" in x[1] and "class" in EXAMPLES[x[0]].axes(x[1])],
)
def test_a_class_with_a_logit_of_minus_infinity_has_probability_0(name, argument):
    """No NaN in the value or the gradient, whatever the other classes say."""
    example = EXAMPLES[name]
    arrays = float32(example.arrays())
    arrays[argument][..., -1] = -np.inf
    arrays |= {k: v % (SIZES["class"] - 1) for k, v in arrays.items() if k in example.integers}
    values = {k: jnp.asarray(v) for k, v in arrays.items() if k in example.floats}
    fixed = {k: v for k, v in arrays.items() if k not in example.floats}
    value, first, _ = _derivatives(name, values, fixed, 1)
    assert not any(np.isnan(x).any() for x in floats(value))
    if all(np.isfinite(x).all() for x in floats(value)):
        assert not any(np.isnan(x).any() for x in floats(first))


# -- nothing at all ----------------------------------------------------------------------------

EMPTY = [
    (name, axis)
    for name, example in EXAMPLES.items()
    for axis in sorted({a for n in example.arrays() for a in example.axes(n)} & SIZES.keys())
]


@pytest.mark.parametrize(("name", "axis"), EMPTY)
def test_an_empty_axis_gives_a_value_or_one_line_that_names_it(name, axis):
    sizes = {**SIZES, axis: 0}
    sizes["input"] = sizes["piece"] * sizes["width"]
    arrays = float32(EXAMPLES[name].arrays(sizes))
    try:
        result = outputs(name, arrays)
    except ValueError as error:
        assert str(error).startswith(f"{name}: ") and "\n" not in str(error)
    else:
        assert not any(np.isnan(x).any() for x in floats(result))


# -- widths ------------------------------------------------------------------------------------

# States, which go into the next call as they come out of this one, and what replaces a feature.
KEEPS_PRECISION = {"enqueue", "restart_dead_codes", "straight_through", "update_thresholds"}
OF_ONE_ARGUMENT = KEEPS_PRECISION | {"argmax_aggregate", "random_aggregate"}  # an item as it is


# One branch serves every narrow width, and one both half precisions: the first of each are run
# every day, since each width is a program of every kernel.
NARROW = [np.int8, np.uint8, pytest.param(np.int16, marks=pytest.mark.slow)]
HALF = [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", [n for n, e in EXAMPLES.items() if e.integers])
def test_narrow_integers_count_as_wide_ones(name, dtype):
    """Also where there are more classes than they can number."""
    sizes = {**SIZES, "class": 300, "code": 300}
    arrays = float32(EXAMPLES[name].arrays(sizes))
    integers = {k: v % 100 for k, v in arrays.items() if k in EXAMPLES[name].integers}
    wide = outputs(name, {**arrays, **integers})
    narrow = outputs(name, {**arrays, **{k: v.astype(dtype) for k, v in integers.items()}})
    jax.tree.map(np.testing.assert_array_equal, narrow, wide)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", EXAMPLES)
def test_half_precision_is_read_but_not_computed_in(name, dtype):
    example = EXAMPLES[name]
    arrays = float32(example.arrays())
    half = {k: jnp.asarray(v, dtype) if k in example.floats else v for k, v in arrays.items()}
    whole = {k: np.asarray(v, np.float32) if k in example.floats else v for k, v in half.items()}
    result, expected = (floats(outputs(name, x)) for x in (half, whole))
    for found, wanted in zip(result, expected, strict=True):
        assert found.dtype == (dtype if name in KEEPS_PRECISION else jnp.float32)
        np.testing.assert_allclose(found.astype(jnp.float32), wanted, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("name", "option"), SCALARS)
def test_a_hyper_parameter_in_half_precision_counts_as_the_same_number(name, option, dtype):
    arrays = float32(EXAMPLES[name].arrays())
    half = dtype(EXAMPLES[name].options[option])
    result, expected = (outputs(name, arrays, **{option: x}) for x in (half, jnp.float32(half)))
    jax.tree.map(np.testing.assert_array_equal, result, expected)


@pytest.mark.parametrize(("name", "option"), SCALARS)
def test_a_float64_hyper_parameter_counts_as_the_python_number(name, option, x64):
    arrays = float32(EXAMPLES[name].arrays())
    value = EXAMPLES[name].options[option]
    expected = outputs(name, arrays)
    for number in (np.float64(value), np.asarray(value), jnp.float64(value)):
        result = outputs(name, arrays, **{option: number})
        jax.tree.map(np.testing.assert_array_equal, result, expected)
        assert [x.dtype for x in floats(result)] == [x.dtype for x in floats(expected)]
    assert all(x.dtype == jnp.float32 for x in floats(expected))


@pytest.mark.parametrize(("name", "argument"), [x for x in FLOATS if x[0] not in OF_ONE_ARGUMENT])
def test_one_float64_argument_makes_all_float64(name, argument, x64):
    example = EXAMPLES[name]
    rounded = float32(example.arrays())
    wide = {k: v.astype(np.float64) if k in example.floats else v for k, v in rounded.items()}
    result = floats(outputs(name, {**rounded, argument: wide[argument]}))
    expected = floats(outputs(name, wide))
    digits = 1e-6 if argument == "assignment" else 1e-9  # a constant, which only weighs the rest
    for found, wanted in zip(result, expected, strict=True):
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, wanted, rtol=digits, atol=digits)


# -- with and without jit ----------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_without_jit_numpy_arrays_give_the_same(name):
    """As one steps through a kernel with a debugger."""
    arrays = float32(EXAMPLES[name].arrays())
    scalars = {k: np.float32(v) for k, v in EXAMPLES[name].options.items() if isinstance(v, float)}
    expected = outputs(name, arrays, **scalars)
    with jax.disable_jit():
        result = outputs(name, arrays, **scalars)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), result, expected)


@pytest.mark.parametrize("name", EXAMPLES)
def test_masked_arrays_are_refused(name):
    arrays = float32(EXAMPLES[name].arrays())
    for key, array in arrays.items():
        with pytest.raises(ValueError, match="masked array"):
            outputs(name, {**arrays, key: np.ma.masked_array(array)})


# -- forward mode ------------------------------------------------------------------------------

NO_FORWARD_MODE = {
    "sinkhorn_plan",
    "soft_aggregate",
    "symmetric_info_nce",
    "transport_volume_loss",
    "volume_info_nce",
}
TRANSFORMS = {
    "jvp": lambda f, x: jax.jvp(f, (x,), (x,))[1],
    "linearize": lambda f, x: jax.linearize(f, x)[1](x),
    "jacfwd": lambda f, x: jax.jacfwd(f)(x),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("name", sorted(NO_FORWARD_MODE))
def test_a_kernel_without_forward_mode_says_so(name, transform):
    arrays = float32(EXAMPLES[name].arrays())
    first = next(iter(EXAMPLES[name].floats))
    function = lambda x: floats(outputs(name, {**arrays, first: x}))[0]
    # What `linearize` gives fails when it is called, out of reach of the kernel.
    said = "forward-mode" if transform == "linearize" else f"^{name} has no forward mode .* only"
    with pytest.raises(TypeError, match=said):
        TRANSFORMS[transform](function, jnp.asarray(arrays[first]))


@pytest.mark.parametrize(
    "name", [n for n, e in EXAMPLES.items() if e.floats and n not in NO_FORWARD_MODE]
)
def test_every_other_kernel_has_the_forward_mode_of_its_reverse_mode(name, x64):
    arrays = EXAMPLES[name].arrays()
    values = {k: jnp.asarray(v) for k, v in arrays.items() if k in EXAMPLES[name].floats}
    function = lambda v: total(outputs(name, {**arrays, **v}))
    if not floats(jax.eval_shape(lambda v: outputs(name, {**arrays, **v}), values)):
        return
    _, forward = jax.jit(lambda v: jax.jvp(function, (v,), (v,)))(values)
    reverse = jax.jit(jax.grad(function))(values)
    expected = sum(
        jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (reverse, values)), strict=True)
    )
    np.testing.assert_allclose(forward, expected, rtol=1e-6, atol=1e-9)
