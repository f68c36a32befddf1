"""Notices in the log what does nothing for a training: terms at 0, solved ones, a dead codebook."""

from collections.abc import Mapping

from unirep_jax.methods.method import TrainedMethod

LINES = 3  # of the log in a row, each a mean over many steps, before anything is said
SOLVED = 0.01  # nats: of a hundred examples about one is still told wrongly
COLLAPSED = 1.5  # effective number of codes; 1 is a single one
WAIT = 0.75  # share of the steps before a term counts as always 0: methods warm up
UNCONVERGED = 0.01  # share of the plans
SETTLED = 0.5  # share of the steps before a codebook counts as collapsed


class Watch:
    """Says each thing once.

    Args:
      method: its settings `weight_<term>` say which logged quantities are terms of the loss, its
        `cross_entropies` which of them say nothing any more near 0.
      steps: of the whole training.
    """

    def __init__(self, method: TrainedMethod, steps: int) -> None:
        settings = method.settings().items()
        weights = {k.removeprefix("weight_"): w for k, w in settings if k.startswith("weight_")}
        self._zero = {term for term, weight in weights.items() if weight}  # never anything else
        self._entropies = {t for t in method.cross_entropies if weights.get(t, 1.0)}
        self._steps = steps
        self._low: dict[str, list[int]] = {}  # steps of the latest lines in a row below a bound
        self._said: set[str] = set()

    def look(self, step: int, means: Mapping[str, float]) -> list[str]:
        """What a line of the log shows for the first time."""
        found = {name: self._remark(name, value, step) for name, value in means.items()}
        new = {name: text for name, text in found.items() if text and name not in self._said}
        self._said |= new.keys()
        return [*new.values()]

    def _remark(self, name: str, value: float, step: int) -> str:
        if value != 0:
            self._zero.discard(name)
        elif name in self._zero and step >= WAIT * self._steps:
            return f"{name} has been exactly 0 in all {step} steps: it does not act on these data"
        if name in self._entropies and self._lasting(name, step, 0 < value < SOLVED):
            since = self._low[name][0]
            return f"{name} has been below {SOLVED} since step {since}: solved, it teaches no more"
        kind, _, modality = name.partition("/")
        if kind == "plans_unconverged" and self._lasting(name, step, value > UNCONVERGED):
            return (
                f"{value:.0%} of the transport plans are not converged: more method.iterations, or "
                "a larger method.epsilon, would finish them"
            )
        collapsed = kind == "perplexity" and self._lasting(name, step, value < COLLAPSED)
        if collapsed and step >= SETTLED * self._steps:
            return f"{modality} uses {value:.2f} codes (perplexity): the codebook has collapsed"
        return ""

    def _lasting(self, name: str, step: int, low: bool) -> bool:
        """Whether the quantity has been low in enough lines in a row."""
        steps = self._low.setdefault(name, [])
        if low:
            steps.append(step)
        else:
            steps.clear()
        return len(steps) >= LINES
