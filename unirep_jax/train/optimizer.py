"""Optimiser and learning-rate schedule from the configuration."""

import optax


def make_optimizer(
    *, lr: float, steps: int, schedule: str, warmup: int, weight_decay: float, clip: float
) -> optax.GradientTransformation:
    """AdamW after clipping the gradient's global norm.

    Args:
      schedule: "constant", or "cosine" to zero over `steps`.
      warmup: steps of linear growth from zero.
      clip: largest global norm; 0 for any.

    The authors of MICU use Adam at 4e-4 (no decay reached) and clip each module at 0.5;
    ≠ here: one norm over all parameters.
    """
    if schedule == "cosine":
        warmup = min(warmup, steps // 2)
        rate = optax.warmup_cosine_decay_schedule(0.0, lr, warmup, max(steps, warmup + 1))
    elif schedule == "constant":
        rate = optax.warmup_constant_schedule(0.0, lr, warmup) if warmup else lr
    else:
        raise ValueError(f"schedule={schedule!r} is neither 'cosine' nor 'constant'")
    adamw = optax.adamw(rate, weight_decay=weight_decay)
    return optax.chain(optax.clip_by_global_norm(clip), adamw) if clip else adamw
