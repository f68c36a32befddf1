"""A logistic regression on features as they are: what any trained classifier has to beat."""

import numpy as np
from jaxtyping import Float, Int

from unirep_jax.data.features import FeatureSet
from unirep_jax.data.kinds import is_words
from unirep_jax.data.mapped import take_rows
from unirep_jax.methods.baselines import principal_directions

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # C, chosen on the training examples
FOLDS = 3  # of the cross-validation that chooses it
DIRECTIONS = 512  # principal ones at most: with fewer features the regression is one of these
EXAMPLES = 4096  # at most, from which directions are estimated
LEAST = -700.0  # log-probability; e to the power of it is a float64 above 0
WORDS = 4096  # counts of words; ids beyond share them


class LinearClassifier:
    """Standardised features in their principal directions, and a logistic regression.

    Examples have a mean squared length of 1 whatever the number of features, so that one range of
    penalties suits all. A feature without variance is 0.

    Args:
      x: [example, feature] of the training examples.
      label: [example], of two classes or more.
      seed: of the cross-validation. With a class of a single example there is none, and C = 10.
    """

    def __init__(
        self, x: Float[np.ndarray, "example feature"], label: Int[np.ndarray, "example"], seed: int
    ) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold

        x = np.asarray(x, np.float64)
        self._mean, scale = x.mean(0), x.std(0)
        self._scale = np.where(scale > 0, scale, np.inf) * max(x.shape[1], 1) ** 0.5
        x = self._standard(x)
        rows = np.linspace(0, len(x) - 1, min(len(x), EXAMPLES)).astype(int)
        self._directions = principal_directions(x[rows], DIRECTIONS)
        fewest = int(np.bincount(label)[np.unique(label)].min())
        model = LogisticRegression(C=10.0, max_iter=1000)
        if fewest >= 2:
            folds = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
            model = GridSearchCV(model, {"C": STRENGTHS}, cv=folds)
        self._model = model.fit(x @ self._directions, label)

    def logits(
        self, x: Float[np.ndarray, "example feature"], classes: int
    ) -> Float[np.ndarray, "example class"]:
        """Log-probabilities of every class; next to nothing of one without training examples."""
        found = np.full((len(x), classes), LEAST)
        standard = self._standard(np.asarray(x, np.float64))
        with np.errstate(divide="ignore"):  # of a class that is ruled out: it has LEAST
            logs = self._model.predict_log_proba(standard @ self._directions)
        found[:, self._model.classes_] = np.maximum(logs, LEAST)
        return found

    def _standard(self, x: np.ndarray) -> np.ndarray:
        return (x - self._mean) / self._scale


def concatenated(
    data: FeatureSet, rows: Int[np.ndarray, "row"], modalities: tuple[str, ...]
) -> Float[np.ndarray, "row feature"]:
    """Features of these modalities side by side, flattened; of words, how often each is there.

    Zeros stand for an absent modality.
    """
    parts = []
    for m in modalities:
        x = np.asarray(take_rows(data.features[m], rows)).reshape(len(rows), -1)
        if is_words(x):
            count = min(int(data.features[m].max(initial=0)) + 1, WORDS)
            x = np.stack([np.bincount(row[row > 0] % count, minlength=count) for row in x])
        parts.append(np.where(data.present[m][rows][:, None], x, 0).astype(np.float64))
    return np.concatenate(parts, axis=1)
