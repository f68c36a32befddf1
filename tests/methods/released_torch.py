"""Makes a checkpoint as the authors' training does, converts it, and says what PyTorch computes.

Run by test_released_conversion.py in a process of its own: python released_torch.py FOLDER.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from unirep_jax import convert


class OverTime(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.encoder_layer = nn.TransformerEncoderLayer(256, 4, 1024)
        self.encoder = nn.TransformerEncoder(self.encoder_layer, 2, enable_nested_tensor=False)
        self.affine_matrix = nn.Linear(channels, 256)

    def forward(self, x):
        return self.encoder(self.affine_matrix(x).transpose(0, 1)).transpose(0, 1)


class Pool(nn.Module):
    def __init__(self):
        super().__init__()
        self.se_layer = nn.Sequential(
            nn.Linear(512, 64, bias=False), nn.ReLU(), nn.Linear(64, 512, bias=False), nn.Sigmoid()
        )
        self.affine_video_ave = nn.Linear(512, 256)
        self.affine_video_self = nn.Linear(512, 256)
        self.ave_v_att = nn.Linear(256, 1)

    def forward(self, x):
        x = x.flatten(2, 3)
        average = x.mean(2, keepdim=True)
        x = x + x * self.se_layer(average)
        query = self.affine_video_self(x).relu() * self.affine_video_ave(average).relu()
        return (self.ave_v_att(query).tanh().softmax(2) * x).sum(2)


class Quantizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("embedding", torch.randn(400, 256))
        self.register_buffer("ema_count", torch.rand(400))
        self.register_buffer("ema_weight", torch.randn(400, 256))
        self.register_buffer("unactivated_count", -torch.ones(400))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.Audio_encoder = nn.Linear(2, 2)  # of training alone
        self.Cross_quantizer = Quantizer()
        self.video_semantic_encoder = Pool()
        self.video_self_att = OverTime(512)
        self.text_self_att = OverTime(256)
        self.audio_self_att = OverTime(128)


def converted(*arguments):
    """What the command says of a checkpoint that it refuses."""
    try:
        convert.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return str(stop.code)
    return ""


def main(folder):
    torch.manual_seed(0)
    encoder = Encoder().double().eval()
    lstm = nn.LSTM(768, 128, num_layers=2, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for parameter in encoder.parameters():  # norms, too, are not as they start
            parameter += 0.05 * torch.randn_like(parameter)
        x = {
            "audio": torch.randn(2, 10, 128).double(),
            "video": torch.randn(2, 10, 7, 7, 512).double(),
            "text": torch.randn(2, 10, 768).double(),
        }
        z = {
            "audio": encoder.audio_self_att(x["audio"]),
            "video": encoder.video_self_att(encoder.video_semantic_encoder(x["video"])),
            "text": encoder.text_self_att(lstm(x["text"])[0]),
        }
    arrays = {f"x/{m}": tensor.numpy() for m, tensor in x.items()}
    np.savez(folder / "computed.npz", **arrays, **{f"z/{m}": z[m].numpy() for m in z})
    whole = {
        "Encoder_parameters": encoder.state_dict(),
        "Text_ar_lstm_parameters": lstm.state_dict(),
        "optimizer": torch.optim.Adam(lstm.parameters()).state_dict(),
        "epoch": 3,
        "total_step": 1600,
    }
    wrong = {
        "harmful": {"Encoder_parameters": {}, "run": Path("anything")},
        "bare": lstm.state_dict(),
        "other": {
            "Encoder_parameters": Quantizer().state_dict(),
            "Text_ar_lstm_parameters": nn.LSTM(768, 64, bidirectional=True).state_dict(),
        },
    }
    embedding = "Cross_quantizer.embedding"
    spoiled = {
        "nan": torch.full((400, 256), torch.nan),
        "complex": torch.zeros(400, 256, dtype=torch.complex64),
        "integer": torch.zeros(400, 256, dtype=torch.int32),
        "sparse": torch.zeros(400, 256).to_sparse(),
        "number": 1.5,
    }
    encoder = whole["Encoder_parameters"]
    wrong |= {
        name: whole | {"Encoder_parameters": encoder | {embedding: value}}
        for name, value in spoiled.items()
    }
    wrong["list"] = whole | {"Encoder_parameters": [1, 2]}
    half = encoder | {embedding: nn.Parameter(torch.full((400, 256), 1.5, dtype=torch.bfloat16))}
    torch.save(whole | {"Encoder_parameters": half}, folder / "half.pt")
    assert converted(folder / "half.pt", folder / "half.safetensors") == ""
    os.mkfifo(folder / "pipe.pt")
    for name, content in {"MICU": whole, **wrong}.items():
        torch.save(content, folder / f"{name}.pt")
    assert converted(folder / "MICU.pt", folder / "MICU.safetensors") == ""
    for name in (*wrong, "absent", "pipe"):
        out = folder / f"{name}.safetensors"
        print(repr(converted(folder / f"{name}.pt", out)))
        assert not out.exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
