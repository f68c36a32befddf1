"""Weights as the authors of MICU and DCID name them, made up, and what their network makes of them.

float64 NumPy with loops over heads and steps, written from the description of the network alone.
"""

import numpy as np

ENCODER, LSTM = "Encoder_parameters", "Text_ar_lstm_parameters"
CHANNELS = {"audio": 128, "video": 512, "text": 256}  # of what the linear map before time takes


def fabricate(seed=0):
    """Every tensor of a released encoder and text LSTM that is evaluated, and some others."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape) / shape[-1] ** 0.5
    near_one = lambda size: rng.uniform(0.5, 1.5, size)
    tensors = {}

    def linear(name, outputs, inputs, bias=True):
        tensors[f"{name}.weight"] = draw(outputs, inputs)
        if bias:
            tensors[f"{name}.bias"] = 0.3 * rng.standard_normal(outputs)

    def layer(name):
        tensors[f"{name}.self_attn.in_proj_weight"] = draw(768, 256)
        tensors[f"{name}.self_attn.in_proj_bias"] = 0.3 * rng.standard_normal(768)
        linear(f"{name}.self_attn.out_proj", 256, 256)
        linear(f"{name}.linear1", 1024, 256)
        linear(f"{name}.linear2", 256, 1024)
        for norm in ("norm1", "norm2"):
            tensors[f"{name}.{norm}.weight"] = near_one(256)
            tensors[f"{name}.{norm}.bias"] = 0.3 * rng.standard_normal(256)

    for modality, width in CHANNELS.items():
        name = f"{ENCODER}.{modality}_self_att"
        linear(f"{name}.affine_matrix", 256, width)
        for number in range(2):
            layer(f"{name}.encoder.layers.{number}")
    pool = f"{ENCODER}.video_semantic_encoder"
    linear(f"{pool}.se_layer.0", 64, 512, bias=False)
    linear(f"{pool}.se_layer.2", 512, 64, bias=False)
    linear(f"{pool}.affine_video_ave", 256, 512)
    linear(f"{pool}.affine_video_self", 256, 512)
    linear(f"{pool}.ave_v_att", 1, 256)
    for number, width in enumerate((768, 256)):
        for end in (f"l{number}", f"l{number}_reverse"):
            tensors[f"{LSTM}.weight_ih_{end}"] = draw(512, width)
            tensors[f"{LSTM}.weight_hh_{end}"] = draw(512, 128)
            tensors[f"{LSTM}.bias_ih_{end}"] = 0.3 * rng.standard_normal(512)
            tensors[f"{LSTM}.bias_hh_{end}"] = 0.3 * rng.standard_normal(512)
    quantizer = f"{ENCODER}.Cross_quantizer"
    tensors[f"{quantizer}.embedding"] = rng.standard_normal((400, 256))
    tensors[f"{quantizer}.ema_count"] = rng.uniform(0, 9, 400)
    tensors[f"{quantizer}.ema_weight"] = rng.standard_normal((400, 256))
    tensors[f"{quantizer}.unactivated_count"] = rng.integers(-1, 300, 400).astype(float)
    # Of training: their sizes do not matter, for nobody reads them.
    tensors[f"{ENCODER}.audio_self_att.encoder_layer.linear1.bias"] = np.zeros(1)
    tensors[f"{ENCODER}.Video_encoder.conv_stack.0.weight"] = np.zeros((1, 1, 1, 1))
    tensors[f"{ENCODER}.Audio_encoder.audio_linear.weight"] = np.zeros((1, 1))
    tensors[f"{ENCODER}.Text_encoder.text_linear.weight"] = np.zeros((1, 1))
    return tensors


def encode(tensors, modality, x):
    """Features [batch, time, ...] to sequences [batch, time, 256]."""
    x = np.asarray(x, np.float64)
    if modality == "video":
        x = np.stack([[_pool(tensors, frame) for frame in clip] for clip in x])
    if modality == "text":
        for number in range(2):
            x = np.stack([_both_directions(tensors, number, words) for words in x])
    name = f"{ENCODER}.{modality}_self_att"
    x = _linear(tensors, f"{name}.affine_matrix", x)
    for number in range(2):
        x = np.stack([_layer(tensors, f"{name}.encoder.layers.{number}", one) for one in x])
    return x


def quantize(tensors, z, *, zero_first_code):
    """The nearest code to each step, and its number."""
    codebook = tensors[f"{ENCODER}.Cross_quantizer.embedding"].copy()
    if zero_first_code:
        codebook[0] = 0
    distance = ((z[:, :, None] - codebook) ** 2).sum(-1)
    indices = distance.argmin(-1)
    return codebook[indices], indices


def _linear(tensors, name, x):
    return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", 0)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _norm(tensors, name, x):
    variance = x.var(-1, keepdims=True)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-5)
    return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def _layer(tensors, name, x):
    """Self-attention of four heads, then two linear maps; the norm stands after each sum."""
    mixed = x @ tensors[f"{name}.self_attn.in_proj_weight"].T
    query, key, value = np.split(mixed + tensors[f"{name}.self_attn.in_proj_bias"], 3, axis=-1)
    heads = []
    for place in range(4):
        part = slice(64 * place, 64 * place + 64)
        attention = _softmax(query[:, part] @ key[:, part].T / 8)
        heads.append(attention @ value[:, part])
    attended = _linear(tensors, f"{name}.self_attn.out_proj", np.concatenate(heads, axis=-1))
    x = _norm(tensors, f"{name}.norm1", x + attended)
    hidden = np.maximum(_linear(tensors, f"{name}.linear1", x), 0)
    return _norm(tensors, f"{name}.norm2", x + _linear(tensors, f"{name}.linear2", hidden))


def _pool(tensors, frame):
    """[7, 7, 512] to [512]: channels by a gate, positions by attention."""
    name, positions = f"{ENCODER}.video_semantic_encoder", frame.reshape(49, 512)
    average = positions.mean(0)
    gate = np.maximum(_linear(tensors, f"{name}.se_layer.0", average), 0)
    gated = positions * _sigmoid(_linear(tensors, f"{name}.se_layer.2", gate)) + positions
    whole = np.maximum(_linear(tensors, f"{name}.affine_video_ave", average), 0)
    each = np.maximum(_linear(tensors, f"{name}.affine_video_self", gated), 0)
    score = np.tanh(_linear(tensors, f"{name}.ave_v_att", each * whole))[:, 0]
    return _softmax(score) @ gated


def _both_directions(tensors, number, words):
    forward = _lstm(tensors, f"l{number}", words)
    backward = _lstm(tensors, f"l{number}_reverse", words[::-1])[::-1]
    return np.concatenate([forward, backward], axis=-1)


def _lstm(tensors, end, words):
    cell, hidden, states = np.zeros(128), np.zeros(128), []
    for word in words:
        gates = tensors[f"{LSTM}.weight_ih_{end}"] @ word + tensors[f"{LSTM}.bias_ih_{end}"]
        gates += tensors[f"{LSTM}.weight_hh_{end}"] @ hidden + tensors[f"{LSTM}.bias_hh_{end}"]
        enter, forget, value, leave = np.split(gates, 4)
        cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(value)
        hidden = _sigmoid(leave) * np.tanh(cell)
        states.append(hidden)
    return np.stack(states)
