"""Variants of MICU for `python -m unirep_jax.sweep --variants=configs/ablations.py:NAME`.

losses    Table 7: each of L_fine, L_coarse, L_cujp on and off
jigsaw    Figure 3: no jigsaw, MMJP with 6 pieces, CUJP with 2, 4 and 8
mask      Figure 4: what is masked, shared by the modalities or drawn for each
codebook  Figure 5: 256 to 1024 codes
terms     without L_fine, without CUJP, and with half the pieces hidden
timed     those, and L_fine of modalities that share their time alone
presets   the equations as printed, the authors' code, and the configuration itself
"""

import dataclasses
from itertools import product

from unirep_jax.config_arguments import variants
from unirep_jax.methods import MICU


def get_variants(name: str) -> dict[str, dict]:
    return variants(name, VARIANTS)


def _losses() -> dict[str, dict]:
    terms = ("fine", "coarse", "jigsaw")
    chosen = [on for on in product((True, False), repeat=3) if any(on)]
    return {
        "+".join(t for t, used in zip(terms, on, strict=True) if used): {
            f"method.weight_{t}": 0.0 for t, used in zip(terms, on, strict=True) if not used
        }
        for on in chosen
    }


def _cujp(pieces: int, permutations: int) -> dict:
    return {"method.jigsaw": "cujp", "method.pieces": pieces, "method.permutations": permutations}


def _preset(method: MICU) -> dict:
    return {f"method.{field}": value for field, value in dataclasses.asdict(method).items()}


TERMS = {
    "MICU": {},
    "without L_fine": {"method.weight_fine": 0.0},
    "without CUJP": {"method.weight_jigsaw": 0.0},
    "half the pieces hidden": {"method.jigsaw_hidden": 0.5},
}
VARIANTS = {
    "losses": _losses(),
    "jigsaw": {
        "no jigsaw": {"method.weight_jigsaw": 0.0},
        # Two pieces of each of three modalities.
        "MMJP6": {"method.jigsaw": "mmjp", "method.pieces": 2, "method.permutations": 128},
        "CUJP2": _cujp(2, 2),
        "CUJP4": _cujp(4, 24),
        "CUJP8": _cujp(8, 256),
    },
    "mask": {
        "no mask": {"method.mask": "none"},
        "dimensions, shared": {"method.mask": "dimensions"},
        "dimensions, independent": {"method.mask": "dimensions", "method.mask_shared": False},
        "steps, shared": {"method.mask": "steps"},
        "steps, independent": {"method.mask": "steps", "method.mask_shared": False},
    },
    "codebook": {f"{codes} codes": {"method.codes": codes} for codes in (256, 400, 512, 800, 1024)},
    "terms": TERMS,
    "timed": TERMS | {"L_fine of shared time": {"method.fine_pairs": "timed"}},
    "presets": {
        "configuration": {},
        "paper": _preset(MICU.paper()),
        "official": _preset(MICU.official()),
    },
}
