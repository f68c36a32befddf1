"""The numbers of all methods, checked in one place: a name means one thing everywhere."""

import dataclasses
from typing import Any

from unirep_jax.ranges import Real, Whole, check_number

_COUNT, _COUNT_OR_NONE = Whole(1, "elements"), Whole(0, "elements")
_STEPS, _WEIGHT = Whole(0, "steps"), Real("the weight of a term")
_SHARE, _SHARE_BELOW = Real("a share", most=1), Real("a share", most=1, below=True)
_TEMPERATURE = Real("a temperature", above=True)

RANGES: dict[str, Whole | Real] = {
    **dict.fromkeys(
        (
            "dim",
            "codes",
            "heads",
            "kv_heads",
            "width",
            "tokens",
            "embedding",
            "latent",
            "pieces",
            "components",
            "projection",
            "slots",
            "count",
            "group_count",
            "iterations",
            "predicted_steps",
            "members",
        ),
        _COUNT,
    ),
    **dict.fromkeys(
        (
            "layers",
            "hidden",
            "queue",
            "experts",
            "matched",
            "classes",
            "examples",
            "block_size",
            "time",
        ),
        _COUNT_OR_NONE,
    ),
    **dict.fromkeys(("warm_start", "steps", "refresh_every"), _STEPS),
    **dict.fromkeys(("warmup", "probe", "anchors", "connect", "heads_share"), _SHARE),
    **dict.fromkeys(("patience", "anneal", "ramp"), Whole(1, "steps")),
    "permutations": Whole(1, "orders"),
    **dict.fromkeys(
        (
            "temperature",
            "temperature_shared",
            "temperature_other",
            "consistency_temperature",
            "sharpness",
            "consensus_sharpness",
        ),
        _TEMPERATURE,
    ),
    "epsilon": Real("the entropy of a plan", above=True),
    "ridge": Real("times the mean variance", above=True),
    **dict.fromkeys(("dropout", "mask_ratio", "jigsaw_hidden"), _SHARE_BELOW),
    **dict.fromkeys(("decay", "momentum", "label_smoothing", "damping"), _SHARE),
    "share": Real("of all examples", above=True, most=1),
    "warp": Real("a share of the time", most=0.5, below=True),
    **dict.fromkeys(("noise", "gain", "perturbation"), Real("a standard deviation")),
    "noise_variance": Real("the variance of an entry"),
    "strong": Real("times the augmentation"),
    "concentration": Real("of a Beta distribution", above=True),
    "percentile": Real("percent", most=100),
    **dict.fromkeys(("commitment_own", "commitment_other", "predict_own"), _WEIGHT),
}


def check_settings(method: Any) -> None:
    """Refuses a number that no method can work with.

    Raises:
      ValueError: naming the first setting at fault, its value, and what it can be.
    """
    for field in dataclasses.fields(method):
        weight = _WEIGHT if field.name.startswith("weight_") else None
        allowed = RANGES.get(field.name, weight)
        if allowed is not None and not isinstance(getattr(method, field.name), tuple):
            check_number(f"method.{field.name}", getattr(method, field.name), allowed)
