"""Parameters of a published network under the names of official_torch.py, and back by shape.

A map is a list of (our path, their name, how an array of ours becomes one of theirs).
"""

import numpy as np


def pairs(size):
    """(path in our parameters, {their name: function of the array}) of every array."""
    same, transposed = (lambda x: x), (lambda x: x.T)
    convolution = lambda x: x.transpose(3, 2, 0, 1)
    deconvolution = lambda x: x[::-1, ::-1].transpose(2, 3, 0, 1)
    flat_in = lambda x: x.reshape(x.shape[0], -1).T  # [dim, heads, width]
    found = {}

    def dense(ours, theirs, bias=True):
        found[f"{ours}/kernel"] = (f"{theirs}.weight", transposed)
        if bias:
            found[f"{ours}/bias"] = (f"{theirs}.bias", same)

    def conv(ours, theirs, change=convolution, bias=True):
        found[f"{ours}/kernel"] = (f"{theirs}.weight", change)
        if bias:
            found[f"{ours}/bias"] = (f"{theirs}.bias", same)

    for m in ("audio", "video", "text"):
        encoder = f"network/encoders_{m}"
        dense(f"{encoder}/Dense_0", f"over_time.{m}.affine")
        for number in range(size["layers"]):
            ours = f"{encoder}/TransformerBlock_{number}"
            theirs = f"over_time.{m}.layers.{number}"
            attention = f"{ours}/MultiHeadDotProductAttention_0"
            for place, kind in enumerate(("query", "key", "value")):
                joined = f"{theirs}.self_attn.in_proj"
                found[f"{attention}/{kind}/kernel"] = ((f"{joined}_weight", place), flat_in)
                found[f"{attention}/{kind}/bias"] = ((f"{joined}_bias", place), np.ravel)
            found[f"{attention}/out/kernel"] = (
                f"{theirs}.self_attn.out_proj.weight",
                lambda x: x.reshape(-1, x.shape[-1]).T,
            )
            found[f"{attention}/out/bias"] = (f"{theirs}.self_attn.out_proj.bias", same)
            dense(f"{ours}/Dense_0", f"{theirs}.linear1")
            dense(f"{ours}/Dense_1", f"{theirs}.linear2")
            for norm in range(2):
                found[f"{ours}/LayerNorm_{norm}/scale"] = (f"{theirs}.norm{norm + 1}.weight", same)
                found[f"{ours}/LayerNorm_{norm}/bias"] = (f"{theirs}.norm{norm + 1}.bias", same)
    pool = "network/encoders_video/AttentionPool_0"
    for number, name in enumerate(("down", "up", "whole", "each", "score")):
        dense(f"{pool}/Dense_{number}", f"pool.{name}", bias=number > 1)
    dense("network/specifics_audio/Dense_0", "audio_own")
    dense("network/specifics_text/Dense_0", "text_own")
    for place, name in enumerate(("first", "second", "third")):
        conv(f"network/specifics_video/Conv_{place}", f"video_own.{name}")
        conv(
            f"network/decoders_video/ConvTranspose_{place}", f"decoders.video.{name}", deconvolution
        )
    for ours, theirs in (("specifics_video", "video_own"), ("decoders_video", "decoders.video")):
        for place, name in enumerate(("wide", "narrow")):
            conv(f"network/{ours}/Residual_0/Conv_{place}", f"{theirs}.residual.{name}", bias=False)
    dense("network/decoders_video/Dense_0", "decoders.video.code")
    for m in ("audio", "text"):
        for ours, theirs in (("Dense_0", "code"), ("Dense_1", "out")):
            dense(f"network/decoders_{m}/{ours}", f"decoders.{m}.{theirs}")
    for layer in ("hidden", "output"):
        found[f"jigsaw/{layer}_kernel"] = (f"{layer}.weight", transposed)
        found[f"jigsaw/{layer}_bias"] = (f"{layer}.bias", same)
    return found


def leaves(tree, prefix=""):
    """Arrays by path."""
    if not isinstance(tree, dict):
        return {prefix[:-1]: np.asarray(tree, np.float64)}
    return {k: v for n, sub in tree.items() for k, v in leaves(sub, f"{prefix}{n}/").items()}


def as_torch(params, size):
    """Every array by their name."""
    ours, theirs, parts = leaves(params), {}, {}
    for path, (name, change) in pairs(size).items():
        array = change(ours.pop(path))
        if isinstance(name, tuple):
            parts.setdefault(name[0], {})[name[1]] = array
        else:
            theirs[name] = array
    theirs |= {name: np.concatenate([p[i] for i in range(3)]) for name, p in parts.items()}
    for layer in range(2):
        lstm = {
            kind: ours.pop(f"network/words/BiLSTM_{layer}/{kind}")
            for kind in ("kernel", "recurrent", "bias", "recurrent_bias")
        }
        for place, end in enumerate(("", "_reverse")):
            theirs[f"lstm.weight_ih_l{layer}{end}"] = lstm["kernel"][place].T
            theirs[f"lstm.weight_hh_l{layer}{end}"] = lstm["recurrent"][place].T
            theirs[f"lstm.bias_ih_l{layer}{end}"] = lstm["bias"][place]
            theirs[f"lstm.bias_hh_l{layer}{end}"] = lstm["recurrent_bias"][place]
    assert not ours, f"no name for {sorted(ours)}"
    return {name: np.ascontiguousarray(array) for name, array in theirs.items()}
