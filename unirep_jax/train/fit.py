"""Prepares a method for a feature set, and trains it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from unirep_jax import data
from unirep_jax.data import FeatureSet
from unirep_jax.data.resident import index_batches, is_pool, resident_arrays
from unirep_jax.identity import Identity
from unirep_jax.methods.method import (
    Method,
    RefreshingMethod,
    SolvedMethod,
    StartedMethod,
    TrainedMethod,
)
from unirep_jax.train.loop import train
from unirep_jax.train.optimizer import make_optimizer
from unirep_jax.train.parallel import AXIS, Engine, make_engine
from unirep_jax.train.settings import CHECKPOINT_SECONDS, check_training
from unirep_jax.train.start import Start, check_shapes, start_state
from unirep_jax.train.step import TrainState, fused_step, init_state, train_step
from unirep_jax.train.tracking import check_tracking, tracking
from unirep_jax.train.watch import Watch


class Fitting(NamedTuple):
    """Everything that training needs: method, step, initial state, batches.

    method: for the shapes of the data; engine: its step; initial: makes the state before step 0;
    batches: (start, steps) -> what the engine's step takes, on the host, for these steps: this
    process's share of it;
    steps_per_call: how many steps one call of the engine's step makes; examples: of an epoch;
    start: the run that the state before step 0 is of, None where it is drawn.
    """

    method: Method
    engine: Engine
    initial: Callable[[], TrainState]
    batches: Callable[[int, int], Iterator[Any]]
    steps_per_call: int
    examples: int
    start: Start | None = None


def prepare(
    method: Method,
    training_set: FeatureSet,
    settings: ConfigDict,
    *,
    seed: int,
    labels: bool = False,
    pools: Any = None,
    section: str = "",
    start: Start | None = None,
) -> Fitting:
    """Everything before the first step.

    Args:
      method: not yet made for these data.
      training_set: whose training examples are streamed through tf.data, by default.
      settings: `steps`, `batch_size`, `parallel`, `train` of a configuration.
      labels: whether batches carry labels.
      pools: a `Pool`, or a tree of them: the set is kept on the devices, batches are drawn from
        these pools instead, and `settings.train.fused` steps are made at a time.
      section: of the configuration in which the settings are, to name them in errors.
      start: weights to start from in place of drawn ones.

    Raises:
      ValueError: a setting is not possible.
    """
    if settings.steps and not isinstance(method, TrainedMethod):
        name = type(method).__name__
        raise ValueError(f"steps={settings.steps}: {name} is not trained by steps; must be 0")
    check_training(settings, seed, section)
    check_tracking(settings)
    method = method.for_features(training_set)
    if isinstance(method, TrainedMethod):
        method = method.for_examples(training_set)
    names = ("lr", "schedule", "warmup", "weight_decay", "clip")
    part_of = method.part_of if isinstance(method, TrainedMethod) else None
    optimizer = make_optimizer(
        steps=settings.steps, part_of=part_of, **{k: settings.train[k] for k in names}
    )
    if pools is None:
        step = partial(train_step, method=method, optimizer=optimizer, axis_name=AXIS)
        engine = make_engine(step, parallel=settings.parallel)
        batches = partial(_streamed, training_set, settings.batch_size, seed, labels)
        counts, examples = [settings.batch_size], training_set.items(training_set.train)
        if settings.steps:
            batches(0, 0)  # refuses an impossible batch size now
    else:
        refreshing = None
        if isinstance(method, RefreshingMethod):
            method = method.for_pools(pools, settings.steps)
            refreshing = method if method.refresh_every else None
        _check_fused(settings, refreshing)
        step = partial(train_step, method=method, optimizer=optimizer, axis_name=AXIS)
        step = partial(fused_step, step=step, pools=pools, method=refreshing)
        engine = make_engine(
            step, parallel=settings.parallel, resident=resident_arrays(training_set, pools)
        )
        batches = partial(_drawn, pools, seed, settings.train.fused)
        leaves = jax.tree.leaves(pools, is_leaf=is_pool)
        counts, examples = [pool.count for pool in leaves], max(len(pool.rows) for pool in leaves)
    for count in counts if settings.steps else ():
        if isinstance(method, TrainedMethod):
            method.check_batch(count)
        if count % engine.devices:
            raise ValueError(f"batch_size={count} does not split over {engine.devices} devices")
    if start is None:
        initial = _initial(method, optimizer, training_set, seed)
    else:
        initial = _continued(method, optimizer, training_set, seed, start)
    fused = 1 if pools is None else settings.train.fused
    return Fitting(method, engine, initial, batches, fused, examples, start)


def _initial(
    method: Method, optimizer: optax.GradientTransformation, training_set: FeatureSet, seed: int
) -> Callable[[], TrainState]:
    """Makes the state before step 0, which is also the last of a method that is solved."""
    if isinstance(method, SolvedMethod):
        params, state = method.solve(training_set)
        solved = TrainState(jnp.int32(0), jnp.int32(seed), params, optimizer.init(params), state)
        return lambda: solved
    drawn = _drawn_state(method, optimizer, training_set, seed)
    if not isinstance(method, StartedMethod):
        return drawn

    begin = method.start(training_set)

    def started() -> TrainState:
        state = drawn()
        return state._replace(params=begin(state.params))

    return started


def _drawn_state(
    method: Method, optimizer: optax.GradientTransformation, training_set: FeatureSet, seed: int
) -> Callable[[], TrainState]:
    shapes = {m: x.shape[1:] for m, x in training_set.features.items()}
    statistics = data.standardization(training_set)
    return partial(init_state, method, optimizer, seed=seed, shapes=shapes, statistics=statistics)


def _continued(
    method: Method,
    optimizer: optax.GradientTransformation,
    training_set: FeatureSet,
    seed: int,
    start: Start,
) -> Callable[[], TrainState]:
    """Makes the state before step 0 of a run's weights, once they are found to fit."""
    if not isinstance(method, TrainedMethod):
        raise ValueError(f"start.run: {type(method).__name__} is not trained by steps")
    check_shapes(start, {m: x.shape[1:] for m, x in training_set.features.items()})
    drawn = _drawn_state(method, optimizer, training_set, seed)

    def initial() -> TrainState:
        return start_state(drawn(), start, method.settings(), training_set.modalities)

    jax.eval_shape(initial)  # refuses parameters of another form now
    return initial


def fit(
    fitting: Fitting, settings: ConfigDict, workdir: Path, identity: Identity | None = None
) -> TrainState:
    """Trains, from the last checkpoint in `workdir` where there is one; see `train.loop.train`."""

    method = fitting.method

    def placed(start: int) -> Iterator[Any]:
        host = fitting.batches(start, settings.steps - start)
        return data.prefetch_to_device(host, fitting.engine.place_batch)

    return train(
        fitting.engine,
        fitting.initial,
        placed,
        workdir=workdir,
        steps=settings.steps,
        batch_size=settings.batch_size,
        log_every=settings.train.log_every,
        checkpoint_every=settings.train.checkpoint_every,
        checkpoint_seconds=settings.train.get("checkpoint_seconds", CHECKPOINT_SECONDS),
        fused=fitting.steps_per_call,
        examples=fitting.examples,
        identity=identity,
        watch=Watch(method, settings.steps) if isinstance(method, TrainedMethod) else None,
        tracked=tracking(settings, workdir),
    )


def retrace(fitting: Fitting, points: Sequence[int]) -> Iterator[tuple[int, TrainState]]:
    """The states after these numbers of steps, or at the first end of a call beyond, ascending.

    Training is repeated from its start with the same batches, so they are those it went through.
    """
    engine, points, step = fitting.engine, sorted(points), 0
    if points[-1] == 0:  # nothing was trained
        yield 0, fitting.initial()
    placed = engine.place_state(fitting.initial())
    for batch in fitting.batches(0, points[-1]):
        placed, _ = engine.step(placed, engine.place_batch(batch))
        if engine.must_block:
            jax.block_until_ready(placed)
        step += fitting.steps_per_call
        if points and step >= points[0]:
            points = [p for p in points if p > step]
            yield step, engine.fetch_state(placed)


def _streamed(training_set, batch_size, seed, labels, start: int, steps: int) -> Iterator[dict]:
    return data.batches(
        training_set,
        batch_size=batch_size,
        seed=seed,
        start_step=start,
        num_steps=steps,
        labels=labels,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _drawn(pools, seed, fused, start: int, steps: int) -> Iterator[Any]:
    return index_batches(
        pools,
        seed=seed,
        start_step=start,
        num_steps=steps,
        fused=fused,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _check_fused(settings: ConfigDict, refreshing: Any) -> None:
    fused, train_settings = settings.train.fused, settings.train
    numbers = {"steps": settings.steps, "train.log_every": train_settings.log_every}
    numbers |= {"train.checkpoint_every": train_settings.checkpoint_every}
    if refreshing is not None:
        numbers |= {"method.refresh_every": refreshing.refresh_every}
    for name, number in numbers.items():
        if fused < 1 or number % fused:
            raise ValueError(f"{name}={number} is not a multiple of train.fused={fused}")
