"""Optimiser and learning-rate schedule from the configuration."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

PartOf = Callable[[tuple[str, ...]], str]  # path of a parameter -> part; "" is not clipped


def make_optimizer(
    *,
    lr: float,
    steps: int,
    schedule: str,
    warmup: int,
    weight_decay: float,
    clip: float,
    part_of: PartOf | None = None,
) -> optax.GradientTransformation:
    """AdamW after clipping the gradient's global norm.

    Args:
      schedule: "constant", or "cosine" to zero over `steps`.
      warmup: steps of linear growth from zero.
      clip: largest norm of the gradient, of all parameters or of each part; 0 for any.
      part_of: what each parameter is a part of, where parts are clipped on their own, as the
        authors of MICU do (Adam at 4e-4 without decay, each module at 0.5).
    """
    if schedule == "cosine":
        warmup = min(warmup, steps // 2)
        rate = optax.warmup_cosine_decay_schedule(0.0, lr, warmup, max(steps, warmup + 1))
    elif schedule == "constant":
        rate = optax.warmup_constant_schedule(0.0, lr, warmup) if warmup else lr
    else:
        raise ValueError(f"schedule={schedule!r} is neither 'cosine' nor 'constant'")
    adamw = optax.adamw(rate, weight_decay=weight_decay)
    if not clip:
        return adamw
    clipping = optax.clip_by_global_norm(clip) if part_of is None else clip_parts(clip, part_of)
    return optax.chain(clipping, adamw)


def clip_parts(clip: float, part_of: PartOf) -> optax.GradientTransformation:
    """Scales the gradient of each part down to the norm `clip`, each by its own norm.

        g ← g · min(1, clip / (‖g of the part‖ + 10⁻⁶))

    as PyTorch's `clip_grad_norm_` of a module.
    """

    def update(updates, state, params=None):
        del params
        leaves, tree = jax.tree_util.tree_flatten_with_path(updates)
        parts = [part_of(tuple(str(getattr(e, "key", e)) for e in path)) for path, _ in leaves]
        scale = {"": 1.0}
        for part in {*parts} - {""}:
            norm = optax.global_norm(
                [x for p, (_, x) in zip(parts, leaves, strict=True) if p == part]
            )
            scale[part] = jnp.minimum(1.0, clip / (norm + 1e-6))
        scaled = [x * scale[p] for p, (_, x) in zip(parts, leaves, strict=True)]
        return tree.unflatten(scaled), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
