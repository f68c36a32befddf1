"""When correspondence is wrong: MOVER's transport on pairs of which a share is spoilt on purpose.

    python -m unirep_jax.main --config=configs/noisy_pairs.py            # latent_views, made up
    python -m unirep_jax.main --config=configs/noisy_pairs.py:digits_avt,pairwise \\
      --config.task.share=0.8
    python -m unirep_jax.sweep --config=configs/noisy_pairs.py --config.task.held_out=0.2 \\
      --variants=configs/noisy_pairs.py:search --seeds=1 --workdir=runs/search
    python -m unirep_jax.sweep --config=configs/noisy_pairs.py \\
      --variants=configs/noisy_pairs.py:rows --seeds=5 --workdir=runs/noisy

The argument names a data set, a method, a preset, or several of them. `task.noise` is batch, set,
unpaired or missing, `task.share` how many of the training examples it spoils; tests are clean. With
`task.held_out` some training pairs, as noisy as the others, are evaluated in place of the test
part: there the constants of every row are chosen, from as many settings for each.
docs/results/mover.md has what to expect.
"""

import itertools
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from unirep_jax.config_arguments import parse_argument, variants

SHARED = runpy.run_path(str(Path(__file__).with_name("methods.py")))
CHOICES = SHARED["choices"]("noisy_pairs", "mover", dataset="latent_views")
LINEAR = {  # towers for made-up vectors, which are linear views
    "layers": 0,
    "dim": 32,
    "dropout": 0.0,
    "noise": 0.0,
    "gain": 0.0,
    "warp": 0.0,
    "anchor": "text",
    "warm_start": 100,
}


def get_config(argument: str = "latent_views,mover") -> ConfigDict:
    dataset, method, preset = parse_argument(argument, *CHOICES)
    task = {
        "noise": "batch",  # or "set", "unpaired", "missing"
        "share": 0.5,  # of the training examples
        "block": 8,  # rows among which "batch" shuffles
        "held_out": 0.0,  # of the training examples, to choose settings on
        "plan_epsilon": 0.05,
        "control": True,  # also evaluate the network untrained and linear CCA
    }
    config = SHARED["experiment"](
        "noisy_pairs", dataset, method, preset, steps=500, batch_size=32, task=task
    )
    config["train"] |= {"fused": 20, "log_every": 100}
    if dataset == "latent_views":
        known = {name: value for name, value in LINEAR.items() if name in config["method"]}
        config["method"] |= known
        config["train"] |= {"warmup": 0, "weight_decay": 0.01, "lr": 3e-3}
    return ConfigDict(config)


def get_variants(name: str) -> dict[str, dict]:
    """Rows, for `python -m unirep_jax.sweep --variants=configs/noisy_pairs.py:NAME`."""
    return variants(name, VARIANTS)


COSINE, VOLUME = {"method.measure": "cosine"}, {"method.measure": "volume"}
ROWS = {
    "pairwise InfoNCE": COSINE | {"method.weight_transport": 0.0},
    "w/o GAVE: OT on cosines": COSINE,
    "given pairs, cosines": COSINE | {"method.plan": "given"},
    "w/o OT: volumes": VOLUME | {"method.weight_transport": 0.0},
    "MOVER": VOLUME,
    "given pairs, volumes": VOLUME | {"method.plan": "given"},
}
# As many settings for each row, so that none wins by being searched for longer.
TEMPERATURES = (0.05, 0.1, 0.3, 1.0)  # of a row without a second term
WEIGHTS_AND_TEMPERATURES = tuple(itertools.product((5.0, 20.0), (0.1, 0.3)))


def _grid(row: dict) -> dict[str, dict]:
    if row.get("method.weight_transport") == 0.0:
        return {f"τ {t:g}": row | {"method.temperature": t} for t in TEMPERATURES}
    return {
        f"weight {w:g}, τ {t:g}": row | {"method.weight_transport": w, "method.temperature": t}
        for w, t in WEIGHTS_AND_TEMPERATURES
    }


# The best of each row's settings on held-out noisy pairs, `search` at a share of 0.5, by R@1 of
# cosines.
BEST = {"method.weight_transport": 5.0, "method.temperature": 0.3}
CHOSEN = {
    title: {"method.temperature": 1.0} if "method.weight_transport" in row else BEST
    for title, row in ROWS.items()
}
VARIANTS = {
    "search": {
        f"{title}; {name}": settings
        for title, row in ROWS.items()
        for name, settings in _grid(row).items()
    },
    "rows": {title: row | CHOSEN[title] for title, row in ROWS.items()},
    # Partners outside of the batch (`task.noise=set`) and a plan that remembers earlier batches.
    "queue": {
        "w/o GAVE: OT on cosines": COSINE | BEST,
        "w/o GAVE, queue of 256": COSINE | BEST | {"method.queue": 256},
    },
}
