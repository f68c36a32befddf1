"""PyTorch on the same device, for what peers.py leaves to packages that may be absent."""

import numpy as np
from peers import Run


def log_domain_plan(inputs: dict) -> Run:
    """Sinkhorn's iterations in the log domain, the matrix of costs stored."""
    import torch

    x, y = torch.tensor(inputs["x"]), torch.tensor(inputs["y"])
    epsilon = inputs["epsilon"]

    def run():
        square = lambda v: (v * v).sum(-1)
        logits = (2 * x @ y.T - square(x)[:, None] - square(y)[None, :]) / epsilon
        log_row, log_column = -np.log(len(x)), -np.log(len(y))
        v = torch.zeros(len(y))
        for _ in range(inputs["iterations"]):
            u = log_row - torch.logsumexp(logits + v[None, :], 1)
            v = log_column - torch.logsumexp(logits + u[:, None], 0)
        return (torch.exp(logits + u[:, None] + v[None, :]),)

    return run


def attention(inputs: dict) -> Run:
    """Aggregation of a memory as attention over it, in the precision of the inputs."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    queries, memory = (
        torch.from_dlpack(inputs[name])[None, None] for name in ("queries", "memory")
    )

    def run():
        with torch.no_grad():
            scale = 1 / inputs["temperature"]
            return (scaled_dot_product_attention(queries, memory, memory, scale=scale)[0, 0],)

    return run


def codebook_step(inputs: dict) -> Run:
    """Lookup, straight-through, commitment, their gradient, and the EMA update of the codebook."""
    import torch

    z = torch.tensor(inputs["z"], requires_grad=True)
    weights, codebook = torch.tensor(inputs["weights"]), torch.tensor(inputs["codebook"])
    decay, smoothing = inputs["decay"], 1e-5

    def run():
        with torch.no_grad():
            half_norm = 0.5 * (codebook * codebook).sum(-1)
            indices = (half_norm[None, :] - z @ codebook.T).argmin(-1)
            counts = torch.bincount(indices, minlength=len(codebook)).float()
            sums = torch.zeros_like(codebook).index_add_(0, indices, z)
            count = decay + (1 - decay) * counts
            whole = count.sum()
            count = (count + smoothing) / (whole + len(count) * smoothing) * whole
            new = (decay * codebook + (1 - decay) * sums) / count[:, None]
        code = codebook[indices]
        value = ((z - code) ** 2).mean(-1).mean() + ((code + z - z.detach()) * weights).mean()
        return indices, new, *torch.autograd.grad(value, [z])

    return run
