"""What guessing gives, by metric."""

GUESSABLE = ("accuracy", "os_star", "unk", "hos")


def guess(metric: str, classes: int) -> float:
    """What guessing among `classes` gives, rejecting at random as often as suits HOS best.

    With accuracy a = 1/classes and rejection rate r, OS* = a(1−r) and UNK = r; HOS is highest at
    r = √a / (1 + √a).
    """
    accuracy = 1 / classes
    if metric == "accuracy":
        return accuracy
    unk = accuracy**0.5 / (1 + accuracy**0.5)
    os_star = accuracy * (1 - unk)
    hos = 2 * os_star * unk / (os_star + unk)
    return {"os_star": os_star, "unk": unk, "hos": hos}[metric]
