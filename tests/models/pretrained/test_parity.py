"""Each architecture against its PyTorch original, on random weights of the true shapes."""

import jax
import numpy as np
import pytest

from unirep_jax.models.pretrained.bert import Bert, mean_pooling
from unirep_jax.models.pretrained.clap import ClapAudio, ClapText, cubic_matrix
from unirep_jax.models.pretrained.clip import ClipImage, ClipText
from unirep_jax.models.pretrained.efficientnet import LITE0, EfficientNetLite
from unirep_jax.models.pretrained.vgg import VGG19, VGGISH, Vgg, Vggish
from unirep_jax.models.pretrained.vit import ViT
from unirep_jax.models.pretrained.weights import Folder, load_params

torch = pytest.importorskip("torch", reason="the originals need PyTorch (pip install torch)")
TOLERANCE = 1e-4


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="the originals are in transformers")


@pytest.fixture
def folder_of(tmp_path):
    """Weights of a PyTorch module in a folder, as they are published."""
    from safetensors.torch import save_file

    def make(model):
        if hasattr(model, "save_pretrained"):
            model.save_pretrained(tmp_path)
            return Folder(tmp_path)
        tensors = {k: v.contiguous().clone() for k, v in model.state_dict().items()}
        save_file(tensors, tmp_path / "model.safetensors")
        return Folder(tmp_path)

    return make


def randomized(model, seed=0):
    """Weights and statistics such that no part of the network is without effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.ndim < 2:
                tensor.add_(0.1 * noise)
            elif "relative_position_bias_table" in name or "embed" in name:
                tensor.copy_(0.5 * noise)
    return model.eval()


def close(found, expected):
    """Within the tolerance, of numbers of the order of one."""
    expected = expected.detach().numpy()
    found = np.asarray(found)
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(expected).std() > 1e-3, "a network that gives nothing agrees with everything"
    np.testing.assert_allclose(found / scale, expected / scale, atol=TOLERANCE, rtol=0)


def applied(module, params, *inputs):
    with jax.default_matmul_precision("highest"):
        return jax.jit(module.apply)({"params": params}, *inputs)


def token_ids(rng, vocabulary, length=12):
    ids = rng.integers(3, vocabulary, (3, length)).astype(np.int32)
    mask = (np.arange(length) < np.array([[length], [7], [2]])).astype(np.float32)
    return ids, mask


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_bert_and_roberta_give_the_hidden_states_of_transformers(
    transformers, folder_of, rng, kind
):
    config = getattr(transformers, f"{kind}Config")(num_hidden_layers=3)
    model = randomized(getattr(transformers, f"{kind}Model")(config))
    ids, mask = token_ids(rng, config.vocab_size)
    if kind == "Roberta":
        ids = np.where(mask > 0, ids, config.pad_token_id)
    folder = folder_of(model)
    module = Bert.from_config(folder.config, pooler=True)
    params = load_params(module, (ids, mask), folder)
    hidden, pooled = applied(module, params, ids, mask)
    expected = model(torch.tensor(ids, dtype=torch.long), torch.tensor(mask))
    there = mask > 0
    close(np.asarray(hidden)[there], expected.last_hidden_state[torch.tensor(there)])
    close(pooled, expected.pooler_output)


def test_padding_has_no_effect_on_the_mean_of_a_text(transformers, rng):
    module = Bert(vocabulary=50, width=24, depth=2, heads=3, hidden=48, positions=16)
    ids, mask = token_ids(rng, 50)
    variables = module.init(jax.random.key(0), ids, mask)
    full = mean_pooling(module.apply(variables, ids, mask), mask)
    short = mean_pooling(module.apply(variables, ids[1:2, :7], mask[1:2, :7]), mask[1:2, :7])
    np.testing.assert_allclose(full[1], short[0], atol=1e-5)


def test_vit_gives_the_hidden_states_of_transformers(transformers, folder_of, rng):
    config = transformers.ViTConfig(num_hidden_layers=3)
    model = randomized(transformers.ViTModel(config, add_pooling_layer=False))
    images = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    folder = folder_of(model)
    module = ViT.from_config(folder.config)
    params = load_params(module, (images,), folder, prefixes=("", "vit."))
    expected = model(torch.tensor(images.transpose(0, 3, 1, 2))).last_hidden_state
    close(applied(module, params, images), expected)


@pytest.mark.parametrize("activation, end", [("quick_gelu", 2), ("gelu", 49407)])
def test_clip_gives_the_vectors_of_transformers(transformers, folder_of, rng, activation, end):
    text = {"num_hidden_layers": 2, "hidden_act": activation, "eos_token_id": end}
    vision = {"num_hidden_layers": 2, "hidden_act": activation}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision)
    model = randomized(transformers.CLIPModel(config))
    images = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    ids = rng.integers(0, 49000, (3, 20)).astype(np.int32)
    ids[np.arange(3), [19, 5, 11]] = 49407
    folder = folder_of(model)
    image, words = ClipImage.from_config(folder.config), ClipText.from_config(folder.config)
    found = applied(image, load_params(image, (images,), folder), images)
    expected = model.get_image_features(pixel_values=torch.tensor(images.transpose(0, 3, 1, 2)))
    close(found, torch.nn.functional.normalize(vectors(expected), dim=-1))
    found = applied(words, load_params(words, (ids,), folder), ids)
    expected = model.get_text_features(input_ids=torch.tensor(ids, dtype=torch.long))
    close(found, torch.nn.functional.normalize(vectors(expected), dim=-1))


def vectors(output):
    return getattr(output, "pooler_output", output)


def test_clap_gives_the_vectors_of_transformers(transformers, folder_of, rng):
    text = {"num_hidden_layers": 2}
    config = transformers.ClapConfig(text_config=text, audio_config={"enable_fusion": False})
    model = randomized(transformers.ClapModel(config))
    folder = folder_of(model)
    mel = rng.normal(size=(2, 1001, 64)).astype(np.float32)
    audio, words = ClapAudio.from_config(folder.config), ClapText.from_config(folder.config)
    found = applied(audio, load_params(audio, (mel,), folder), mel)
    expected = model.get_audio_features(input_features=torch.tensor(mel[:, None]))
    close(found, vectors(expected))
    ids, mask = token_ids(rng, 50000)
    ids = np.where(mask > 0, ids, 1)
    found = applied(words, load_params(words, (ids, mask), folder), ids, mask)
    expected = model.get_text_features(
        input_ids=torch.tensor(ids, dtype=torch.long), attention_mask=torch.tensor(mask)
    )
    close(found, vectors(expected))


def test_clap_with_feature_fusion_is_refused():
    with pytest.raises(ValueError, match="feature fusion; expected one without"):
        ClapAudio.from_config({"audio_config": {"enable_fusion": True}})


@pytest.mark.parametrize("before, after", [(1001, 1024), (7, 20), (9, 9)])
def test_cubic_stretching_is_that_of_torch(before, after, rng):
    line = rng.normal(size=(1, 1, before, 3))
    expected = torch.nn.functional.interpolate(
        torch.tensor(line), (after, 3), mode="bicubic", align_corners=True
    )
    np.testing.assert_allclose(cubic_matrix(before, after) @ line[0, 0], expected[0, 0], atol=1e-9)


def sequence(plan, channels):
    layers = []
    for width in plan:
        if width:
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
            channels = width
        else:
            layers.append(torch.nn.MaxPool2d(2, 2))
    return torch.nn.Sequential(*layers)


def test_vgg19_gives_the_map_of_the_published_sequence(folder_of, rng):
    model = torch.nn.Module()
    model.features = sequence(VGG19, 3)
    randomized(model)
    images = rng.normal(size=(1, 224, 224, 3)).astype(np.float32)
    params = load_params(Vgg(), (images,), folder_of(model))
    found = applied(Vgg(), params, images)
    assert found.shape == (1, 7, 7, 512)
    expected = model.features(torch.tensor(images.transpose(0, 3, 1, 2)))
    close(found, expected.permute(0, 2, 3, 1))


def test_vggish_gives_the_embedding_of_the_published_sequence(folder_of, rng):
    model = torch.nn.Module()
    model.features = sequence(VGGISH, 1)
    linear = torch.nn.Linear
    model.embeddings = torch.nn.Sequential(
        linear(512 * 24, 4096),
        torch.nn.ReLU(),
        linear(4096, 4096),
        torch.nn.ReLU(),
        linear(4096, 128),
        torch.nn.ReLU(),
    )
    randomized(model)
    mel = rng.normal(size=(2, 96, 64)).astype(np.float32)
    params = load_params(Vggish(), (mel,), folder_of(model))
    last = model.features(torch.tensor(mel[:, None])).permute(0, 2, 3, 1)
    close(applied(Vggish(), params, mel), model.embeddings(last.flatten(1)))


class TorchBlock(torch.nn.Module):
    """EfficientNet's block by its definition, with the published names."""

    def __init__(self, before, after, size, stride, expansion):
        super().__init__()
        hidden, norm = before * expansion, lambda n: torch.nn.BatchNorm2d(n, eps=1e-3)
        if expansion > 1:
            self._expand_conv = torch.nn.Conv2d(before, hidden, 1, bias=False)
            self._bn0 = norm(hidden)
        self._depthwise_conv = torch.nn.Conv2d(
            hidden, hidden, size, stride, groups=hidden, bias=False
        )
        self._bn1 = norm(hidden)
        self._project_conv = torch.nn.Conv2d(hidden, after, 1, bias=False)
        self._bn2 = norm(after)
        self.shortcut = stride == 1 and before == after

    def forward(self, x):
        relu = torch.nn.functional.relu6
        hidden = relu(self._bn0(self._expand_conv(x))) if hasattr(self, "_bn0") else x
        hidden = relu(self._bn1(self._depthwise_conv(same(hidden, self._depthwise_conv))))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + x if self.shortcut else hidden


def same(x, convolution):
    """TensorFlow's SAME margins."""
    (size, _), (stride, _) = convolution.kernel_size, convolution.stride
    total = max(0, (-(-x.shape[-1] // stride) - 1) * stride + size - x.shape[-1])
    margin = (total // 2, total - total // 2)
    return torch.nn.functional.pad(x, margin * 2)


class TorchLite0(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self._conv_stem = torch.nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = torch.nn.BatchNorm2d(32, eps=1e-3)
        blocks, before = [], 32
        for count, size, stride, expansion, width in LITE0:
            for i in range(count):
                blocks.append(TorchBlock(before, width, size, 1 if i else stride, expansion))
                before = width
        self._blocks = torch.nn.ModuleList(blocks)
        self._conv_head = torch.nn.Conv2d(320, 1280, 1, bias=False)
        self._bn1 = torch.nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = torch.nn.Linear(1280, 1000)

    def forward(self, x):
        relu = torch.nn.functional.relu6
        x = relu(self._bn0(self._conv_stem(same(x, self._conv_stem))))
        for block in self._blocks:
            x = block(x)
        x = relu(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))


@pytest.mark.parametrize("side", [224, 97])
def test_efficientnet_lite0_gives_the_logits_of_its_definition(folder_of, rng, side):
    model = randomized(TorchLite0())
    images = rng.normal(size=(2, side, side, 3)).astype(np.float32)
    folder = folder_of(model)
    whole = EfficientNetLite(classes=1000)
    params = load_params(whole, (images,), folder)
    close(applied(whole, params, images), model(torch.tensor(images.transpose(0, 3, 1, 2))))
