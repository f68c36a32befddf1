"""Zero-shot classification: items against classes that are known by embedded prompts alone."""

from collections.abc import Iterator

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from unirep_jax import losses, metrics

TOP = (1, 3, 5)


def class_embeddings(
    prompts: Float[ArrayLike, "class template dim"],
) -> Float[np.ndarray, "class dim"]:
    """One unit vector for each class: the normalised mean of its normalised prompts.

    A zero prompt adds nothing. Prompts that cancel give the zero vector, which is like no item.

    Args:
      prompts: [class, template, dim], every class in the words of every template.

    Returns:
      [class, dim] in float32.

    Raises:
      ValueError: no class, template or dimension, or a prompt that is not finite.

    Reference: Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", 2021, section 3.1.4.
    """
    prompts = np.asarray(prompts)
    if prompts.ndim != 3 or prompts.size == 0:
        raise ValueError(f"prompts must be [class, template, dim], got shape {prompts.shape}")
    finite = np.isfinite(prompts).all(2)
    if not finite.all():
        place = tuple(np.argwhere(~finite)[0].tolist())
        raise ValueError(f"prompts{list(place)} (class, template) is not finite")
    return np.asarray(losses.unit(np.asarray(losses.unit(prompts)).mean(1)))


def zero_shot(
    items: Float[ArrayLike, "example dim"],
    prompts: Float[ArrayLike, "class template dim"],
    labels: Int[ArrayLike, "example"],
) -> Iterator[tuple[str, float, float]]:
    """Share of items whose class is among the k most similar, by cosine, next to chance.

    Equal similarities count in expectation, so embeddings that have collapsed score as chance.

    Args:
      items: [example, dim], of any length.
      prompts: as `class_embeddings`, of the same space.
      labels: [example], the class of each.

    Yields:
      Metric (`top_1`, `top_3`, `top_5`, where there are more classes than that), its value, and its
      expectation when the order is random.

    Raises:
      ValueError: as `class_embeddings` and `metrics.top_k_accuracy`, or items of another space.
    """
    classes, items = class_embeddings(prompts), np.asarray(items)
    if items.ndim != 2 or items.shape[1] != classes.shape[1]:
        raise ValueError(
            f"items must be [example, {classes.shape[1]}] as prompts are, got {items.shape}"
        )
    scores = np.asarray(losses.unit(items), np.float64) @ classes.T.astype(np.float64)
    for k in TOP:
        if k == 1 or k < len(classes):
            yield f"top_{k}", metrics.top_k_accuracy(labels, scores, k=k), k / len(classes)
