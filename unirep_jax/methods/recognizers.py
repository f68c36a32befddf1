"""Open-set classifiers by name: MRN, and the rows that it is compared with.

A name is HEAD-FUSION or, with the softmax head, FUSION; ensemble-FUSION is five networks averaged:

    | fusion          |                                  | head    | loss                  | score |
    |-----------------|----------------------------------|---------|-----------------------|-------|
    | mrn             | cross-attention, then experts    |         | cross-entropy         | max p |
    | cross_attention | MRN without experts              | openauc | + ranking over mixed  | max l |
    | gqa             | keys shared by groups of heads   | arpl    | far from points       | max l |
    | concat, add     | of mean tokens                   | rpl     | far from points       | max p |
    | alone           | one modality (`modality`)        | gcpl    | near prototypes       | max p |
    | single          | each modality for itself         | cssr    | class autoencoders    | error |
    | tmc             | evidence combined (late)         | rcssr   | the same, reciprocal  | error |
    | mla             | shared head, modalities in turn  |         |                       |       |
"""

import dataclasses

from unirep_jax.methods.recognition import OpenSetClassifier
from unirep_jax.methods.recognition_heads import HEADS, JOINT

_FUSIONS = {
    "mrn": OpenSetClassifier(),
    "cross_attention": OpenSetClassifier(experts=0),
    "gqa": OpenSetClassifier(fusion="gqa", experts=0),
    "concat": OpenSetClassifier(fusion="concat", experts=0),
    "add": OpenSetClassifier(fusion="add", experts=0),
    "alone": OpenSetClassifier(fusion="single", experts=0),
}
_OF_ANY_FUSION = [name for name, head in HEADS.items() if head.fusions == JOINT]
RECOGNIZERS = {
    **_FUSIONS,
    "single": OpenSetClassifier(fusion="late", experts=0),
    "tmc": OpenSetClassifier(fusion="late", head="tmc", experts=0),
    "mla": OpenSetClassifier(fusion="late_shared", head="mla", experts=0),
    **{
        f"ensemble-{name}": dataclasses.replace(_FUSIONS[name], members=5)
        for name in ("concat", "mrn")
    },
    **{
        f"{head}-{name}": dataclasses.replace(row, head=head)
        for head in _OF_ANY_FUSION
        for name, row in _FUSIONS.items()
    },
}
