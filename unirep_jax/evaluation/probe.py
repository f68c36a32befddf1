"""The probe: a small classifier on frozen sequences of one modality.

A sequence is kept as indices into a table of vectors, a codebook for instance; the vectors of a
sequence exist for one batch at a time.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from unirep_jax.ranges import Real, Whole, check_number

RANGES: dict[str, Whole | Real] = {
    "hidden": Whole(1, "units"),
    "steps": Whole(1, "steps"),
    "batch_size": Whole(1, "examples"),
    "lr": Real("the learning rate", above=True),
    "weight_decay": Real("share of a parameter, times the learning rate, a step"),
}


@dataclasses.dataclass(frozen=True)
class Probe:
    """Linear(dim → hidden), maximum over time, Linear(hidden → classes); cross-entropy, AdamW.

    The authors train 16 to 40 epochs with Adam at 4e-4 in batches of 80; `steps` counts batches, so
    that small data sets are trained as long as large ones. Strong decay keeps the probe from being
    certain of what it has not seen: on UTD-MHAD it raises HOS by 2 to 4 points over 0.01.
    """

    hidden: int = 256
    steps: int = 300
    batch_size: int = 80
    lr: float = 2e-3
    weight_decay: float = 3.0

    def __post_init__(self) -> None:
        for name, allowed in RANGES.items():
            check_number(f"probe.{name}", getattr(self, name), allowed)

    @partial(jax.jit, static_argnums=(0,))
    def fit(
        self,
        key: Key[Array, ""],
        table: Float[Array, "row dim"],
        indices: Int[Array, "example time"],
        labels: Int[Array, "example"],
        use: Bool[Array, "example"],
        allowed: Bool[Array, "class"],
    ) -> dict[str, Float[Array, "..."]]:
        """Trains on the examples of `use`, with the classes of `allowed` as the possible answers.

        What does not take part is masked, not cut away, so probes of several folds have one shape
        and can be trained side by side with `jax.vmap`.
        """
        classes = allowed.shape[0]
        first, second, key = jax.random.split(key, 3)
        init = jax.nn.initializers.lecun_normal()
        params = {
            "hidden_kernel": init(first, (table.shape[1], self.hidden)),
            "hidden_bias": jnp.zeros(self.hidden),
            "output_kernel": init(second, (self.hidden, classes)),
            "output_bias": jnp.zeros(classes),
        }
        optimizer = optax.adamw(
            optax.cosine_decay_schedule(self.lr, self.steps), weight_decay=self.weight_decay
        )
        share = jnp.cumsum(use.astype(jnp.float32))

        def step(carry, step_key):
            params, opt_state = carry
            draw = jax.random.uniform(step_key, (self.batch_size,)) * share[-1]
            rows = jnp.searchsorted(share, draw, side="right").clip(0, use.shape[0] - 1)

            def loss(params):
                logits = jnp.where(allowed[None], self.logits(params, table, indices[rows]), -1e9)
                picked = optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows])
                return picked.mean()

            updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        keys = jax.random.split(key, self.steps)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return params

    @partial(jax.jit, static_argnums=(0,))
    def logits(
        self,
        params: dict[str, Float[Array, "..."]],
        table: Float[Array, "row dim"],
        indices: Int[Array, "example time"],
    ) -> Float[Array, "example class"]:
        """Class scores of every sequence."""
        hidden = table[indices] @ params["hidden_kernel"]
        hidden = (
            jnp.max(hidden, axis=1) + params["hidden_bias"][None]
        )  # the bias passes the maximum
        return hidden @ params["output_kernel"] + params["output_bias"][None]
