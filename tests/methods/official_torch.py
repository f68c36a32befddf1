"""The step that MICU's authors' code makes, in PyTorch, from the description of its formulas alone.

Run by test_official.py in a process of its own: python official_torch.py FOLDER. It reads
start.npz (sizes, parameters by our names, batches, masks, draws) and writes after.npz: terms and
gradients of the first step, and the parameters and the codebook after the last.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ORDER = ("audio", "video", "text")


class OverTime(nn.Module):
    def __init__(self, channels, dim, heads, layers):
        super().__init__()
        self.affine = nn.Linear(channels, dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0) for _ in range(layers)
        )

    def forward(self, x):
        x = self.affine(x).transpose(0, 1)
        for layer in self.layers:
            x = layer(x)
        return x.transpose(0, 1)


class Pool(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.down = nn.Linear(channels, max(channels // 8, 1), bias=False)
        self.up = nn.Linear(max(channels // 8, 1), channels, bias=False)
        self.whole = nn.Linear(channels, hidden)
        self.each = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x):
        x = x.flatten(2, 3)
        average = x.mean(2, keepdim=True)
        x = x * self.up(self.down(average).relu()).sigmoid() + x
        query = self.each(x).relu() * self.whole(average).relu()
        return (self.score(query).tanh().softmax(2) * x).sum(2)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.wide = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.narrow = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x):
        x = x.relu()
        return (x + self.narrow(self.wide(x).relu())).relu()


class MapFeatures(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.first, self.second = nn.Conv2d(c, 2 * c, 3), nn.Conv2d(2 * c, 4 * c, 3)
        self.third, self.residual = nn.Conv2d(4 * c, 4 * c, 1), Residual(4 * c)

    def forward(self, x):  # [frame, channel, height, width]
        return self.residual(self.third(self.second(self.first(x).relu()).relu()))


class MapDecoder(nn.Module):
    def __init__(self, c, dim):
        super().__init__()
        self.code = nn.Linear(dim, dim)
        self.first, self.residual = nn.ConvTranspose2d(dim + 4 * c, 2 * c, 3), Residual(2 * c)
        self.second, self.third = nn.ConvTranspose2d(2 * c, c, 3), nn.ConvTranspose2d(c, c, 1)

    def forward(self, code, specific):
        code = self.code(code)[..., None, None].expand(-1, -1, *specific.shape[2:])
        x = self.residual(self.first(torch.cat([code, specific], 1)))
        return self.third(self.second(x).relu())


class Decoder(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        self.code, self.out = nn.Linear(dim, dim), nn.Linear(2 * dim, channels)

    def forward(self, code, specific):
        return self.out(torch.cat([self.code(code), specific], -1))


class Network(nn.Module):
    def __init__(self, size):
        super().__init__()
        dim, channels = size["dim"], {m: size[m] for m in ORDER}
        self.lstm = nn.LSTM(channels["text"], dim // 2, 2, batch_first=True, bidirectional=True)
        width = channels | {"text": dim}
        time = lambda m: OverTime(width[m], dim, size["heads"], size["layers"])
        self.over_time = nn.ModuleDict({m: time(m) for m in ORDER})
        self.pool = Pool(channels["video"], dim)
        self.audio_own, self.text_own = nn.Linear(width["audio"], dim), nn.Linear(dim, dim)
        self.video_own = MapFeatures(channels["video"])
        self.decoders = nn.ModuleDict(
            {
                "audio": Decoder(width["audio"], dim),
                "text": Decoder(dim, dim),
                "video": MapDecoder(channels["video"], dim),
            }
        )
        self.hidden = nn.Linear(dim, 512)
        self.output = nn.Linear(512, size["permutations"])


class Codebook:
    """Three moving averages one after the other, each with a half of what the others say."""

    def __init__(self, embedding, decay):
        self.embedding, self.decay = embedding, decay
        self.count, self.weight = torch.zeros(len(embedding)).double(), embedding.clone()

    def __call__(self, z):
        indices = {
            m: torch.cdist(x.detach(), self.embedding[None]).argmin(-1) for m, x in z.items()
        }
        codes = {m: self.embedding[i] for m, i in indices.items()}
        for m in ORDER:
            others = sum(z[n].detach() for n in ORDER if n != m)
            target = (0.5 * z[m].detach() + 0.25 * others).flatten(0, 1)
            chosen = F.one_hot(indices[m].flatten(), len(self.embedding)).double()
            self.count = self.decay * self.count + (1 - self.decay) * chosen.sum(0)
            total = self.count.sum()
            self.count = (self.count + 1e-5) / (total + len(self.count) * 1e-5) * total
            self.weight = self.decay * self.weight + (1 - self.decay) * chosen.T @ target
        self.embedding = self.weight / self.count[:, None]
        return codes


def info_nce(query, key):
    """Cosines, temperature 0.1, one positive each: the defaults of the authors' package."""
    logits = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).T / 0.1
    return F.cross_entropy(logits, torch.arange(len(query)))


def encode(network, batch):
    words, _ = network.lstm(batch["text"])
    read = {"audio": batch["audio"], "video": network.pool(batch["video"]), "text": words}
    return {m: network.over_time[m](read[m]) for m in ORDER}, words


def contrast(z, mask):
    fine = coarse = 0
    count = len(mask)
    for m in ORDER:
        for n in ORDER:
            masked = z[m] * mask
            for i in range(count):
                fine = fine + info_nce(masked[i], z[n][i]) / count
            coarse = coarse + info_nce(masked.mean(1), z[n].mean(1))
    return fine, coarse


def jigsaw(network, quantized, draw, orders):
    pieces = [
        quantized[ORDER_OF_DRAW[m]].flatten(0, 1).chunk(len(draw), -1)[place]
        for place, m in enumerate(draw)
    ]
    inputs = torch.cat([torch.cat([pieces[p] for p in order], -1) for order in orders])
    label = torch.arange(len(orders)).repeat_interleave(len(pieces[0]))
    return F.cross_entropy(network.output(network.hidden(inputs).relu()), label)


ORDER_OF_DRAW = ("audio", "text", "video")  # draws number modalities by alphabet


def decoding(network, batch, words, quantized):
    b, t, h, w, c = batch["video"].shape
    maps = batch["video"].reshape(b * t, h, w, c).permute(0, 3, 1, 2)
    code = quantized["video"].reshape(b * t, -1)
    decoded = network.decoders["video"](code, network.video_own(maps))
    audio = network.decoders["audio"](quantized["audio"], network.audio_own(batch["audio"]).relu())
    text = network.decoders["text"](quantized["text"], network.text_own(words).relu())
    return (
        F.mse_loss(audio, batch["audio"]) + F.mse_loss(decoded, maps) + ((text - words) ** 2).mean()
    )


def terms_of(network, codebook, batch, mask, draw, orders):
    z, _ = encode(network, batch)
    codes = codebook(z)
    quantized = {m: z[m] + (codes[m] - z[m]).detach() for m in ORDER}
    fine, coarse = contrast(z, mask)
    terms = {"fine": fine, "coarse": coarse, "jigsaw": jigsaw(network, quantized, draw, orders)}
    z, words = encode(network, batch)
    codes = codebook(z)
    quantized = {m: z[m] + (codes[m] - z[m]).detach() for m in ORDER}
    terms["reconstruction"] = decoding(network, batch, words, quantized)
    terms["commitment"] = sum(
        0.25 * (2 if m == n else 0.5) * F.mse_loss(z[m], codes[n]) for m in ORDER for n in ORDER
    )
    return terms


def modules_that_are_clipped(network):
    encoder = [
        network.over_time,
        network.pool,
        network.audio_own,
        network.text_own,
        network.video_own,
    ]
    yield network.lstm.parameters()
    yield [p for module in encoder for p in module.parameters()]
    yield network.decoders.parameters()


def main(folder):
    start = np.load(folder / "start.npz")
    size = {name.partition("/")[2]: int(start[name]) for name in start if name.startswith("size/")}
    network = Network(size).double()
    state = {n.partition("/")[2]: torch.from_numpy(start[n]) for n in start if n.startswith("p/")}
    network.load_state_dict(state)
    codebook = Codebook(torch.from_numpy(start["codebook"]), 0.99)
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-4)
    after = {}
    for step in range(size["steps"]):
        batch = {m: torch.from_numpy(start[f"{m}/{step}"]) for m in ORDER}
        mask = torch.from_numpy(start[f"mask/{step}"])
        terms = terms_of(
            network, codebook, batch, mask, start[f"draw/{step}"].tolist(), start["orders"]
        )
        optimizer.zero_grad()
        sum(terms.values()).backward()
        for name, value in terms.items():
            after[f"term/{step}/{name}"] = value.detach().numpy()
        if step == 0:
            after |= {f"g/{n}": p.grad.numpy().copy() for n, p in network.named_parameters()}
        for parameters in modules_that_are_clipped(network):
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
    after |= {f"p/{n}": p.detach().numpy() for n, p in network.named_parameters()}
    np.savez(folder / "after.npz", codebook=codebook.embedding.numpy(), **after)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
