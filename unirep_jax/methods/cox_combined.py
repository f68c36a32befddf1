"""COX together with a method that learns from unlabelled out-of-modal examples.

Semi-supervised COX learns from these only where its in-modal heads disagree; the others learn from
all of them and never see another modality. The loss is the sum of the terms of both, with one term
for the labels. `cox_moco` is Table 6 of COX (ICLR 2025); of FreeMatch and MixText the paper has
comparisons alone (Table 5).
"""

import dataclasses

import jax

from unirep_jax.methods.cox import COX
from unirep_jax.methods.out_of_modal import FreeMatch, MixText, MoCo


class _Combined(COX):
    """The terms of COX and of the class that follows it in the order of inheritance."""

    def terms(self, params, state, batch, key, axis_name):
        terms, state, shown = super().terms(params, state, batch, key, axis_name)
        other = jax.random.fold_in(key, 2)
        more, state, also = super(COX, self).terms(params, state, batch, other, axis_name)
        return more | terms, state, also | shown


@dataclasses.dataclass(frozen=True)
class COXMoCo(_Combined, MoCo):
    """COX, and two views of an unlabelled example are alike."""


@dataclasses.dataclass(frozen=True)
class COXFreeMatch(_Combined, FreeMatch):
    """COX, and a sure prediction for an unlabelled example labels its stronger augmentation."""


@dataclasses.dataclass(frozen=True)
class COXMixText(_Combined, MixText):
    """COX, and hidden states of labelled and unlabelled examples are mixed with their labels."""


COMBINED: dict[str, type[COX]] = {
    "cox_moco": COXMoCo,
    "cox_freematch": COXFreeMatch,
    "cox_mixtext": COXMixText,
}
