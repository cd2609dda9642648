import pytest
import torch

from lipbounds.errors import LipboundsError
from lipbounds.studies.cases import mnist
from lipbounds.studies.cases.mnist import ARCHITECTURES, CheckpointError

SETTINGS = dict(epochs=4, batch_size=32, learning_rate=0.01, weight_decay=0.01)


@pytest.fixture(scope="module")
def stripes():
    """Images that anyone can tell apart: class k has a bright bar in rows 2k+4 and 2k+5."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (640,), generator=generator)
    images = torch.randint(60, (640, 28, 28), dtype=torch.uint8, generator=generator)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 6, 4:24] = 255
    return images, labels


def _weights(module):
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        # sums of (inputs + 1) * outputs, convolutions counting 25 inputs a channel
        ("small", 26 * 4 + 101 * 8 + 129 * 32 + 33 * 10),
        ("strided", 26 * 8 + 201 * 8 + 129 * 32 + 33 * 10),
        ("avgpool", 26 * 4 + 101 * 8 + 129 * 32 + 33 * 10),
        ("two_fc", 26 * 4 + 101 * 8 + 129 * 64 + 65 * 32 + 33 * 10),
        ("large", 26 * 16 + 401 * 32 + 513 * 128 + 129 * 10),
    ],
)
def test_architectures_have_the_described_sizes(architecture, count):
    module = mnist.build(architecture)
    assert module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert mnist.parameters(module) == count


def test_architectures_pool_as_their_names_say():
    def pools(architecture):
        modules = mnist.build(architecture)
        return [type(m) for m in modules if isinstance(m, (torch.nn.MaxPool2d, torch.nn.AvgPool2d))]

    assert pools("strided") == []
    assert pools("avgpool") == [torch.nn.AvgPool2d] * 2
    assert all(pools(name) == [torch.nn.MaxPool2d] * 2 for name in ("small", "two_fc", "large"))


def test_unknown_architecture_lists_the_known_ones(stripes):
    with pytest.raises(LipboundsError, match="'tiny'.*" + ", ".join(ARCHITECTURES)):
        mnist.train("tiny", 0, *stripes, **SETTINGS)


def test_training_learns_and_reports_each_epoch(stripes):
    calls = []
    images, labels = stripes
    module = mnist.train(
        "strided", 0, images[:512], labels[:512], progress=lambda *call: calls.append(call),
        **SETTINGS,
    )  # fmt: skip
    assert not module.training
    assert [call[:2] for call in calls] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert calls[-1][2] < calls[0][2]
    assert mnist.accuracy(module, images[512:], labels[512:]) > 0.9


def test_training_is_deterministic_for_a_seed_and_leaves_no_trace(stripes):
    settings = SETTINGS | {"epochs": 1}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = mnist.train("small", 5, *stripes, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(2)
    again = mnist.train("small", 5, *stripes, **settings)
    other = mnist.train("small", 6, *stripes, **settings)
    assert torch.equal(_weights(first), _weights(again))
    assert not torch.equal(_weights(first), _weights(other))


def test_a_batch_larger_than_the_data_is_one_batch(stripes):
    images, labels = stripes
    settings = SETTINGS | {"batch_size": 1000, "epochs": 1}
    before = mnist.train("strided", 0, images, labels, **settings | {"learning_rate": 1e-12})
    after = mnist.train("strided", 0, images, labels, **settings)
    assert not torch.equal(_weights(before), _weights(after))


def test_divergence_is_an_error(stripes):
    with pytest.raises(LipboundsError, match="small, seed 0.*lower the learning rate"):
        mnist.train("small", 0, *stripes, **SETTINGS | {"learning_rate": 1e30})


def test_wrong_images_and_labels_are_named(stripes):
    images, labels = stripes
    for bad in [(images.float(), labels), (images[:, :27], labels), (images[:0], labels[:0])]:
        with pytest.raises(LipboundsError, match="images: .* of uint8 wanted"):
            mnist.train("small", 0, *bad, **SETTINGS)
    for bad in [(images, labels[1:]), (images, labels.int())]:
        with pytest.raises(LipboundsError, match="labels: .* of int64 wanted"):
            mnist.accuracy(mnist.build("small"), *bad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_accuracy_counts_hits(dtype):
    """The outputs are the first ten pixels: the brightest of them is the predicted class."""
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10, bias=False)).to(dtype)
    with torch.no_grad():
        module[1].weight.copy_(torch.eye(10, 784))
    images = torch.zeros(1003, 28, 28, dtype=torch.uint8)
    labels = torch.arange(1003) % 10
    images[torch.arange(1003), 0, labels] = 1
    assert mnist.accuracy(module, images, labels) == 1.0
    labels[:3] = (labels[:3] + 1) % 10
    assert mnist.accuracy(module, images, labels) == 1000 / 1003


def test_checkpoint_comes_back_whole(tmp_path):
    module = mnist.build("avgpool")
    metadata = {"architecture": "avgpool", "seed": 3, "accuracy": 0.5}
    path = tmp_path / "new" / "seed3.pt"
    mnist.save(path, module, metadata)
    loaded, described = mnist.load(path)
    assert torch.equal(_weights(loaded), _weights(module))
    assert described == metadata and not loaded.training
    assert [file.name for file in path.parent.iterdir()] == ["seed3.pt"]


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"seed0.pt is missing"):
        mnist.load(tmp_path / "seed0.pt")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_checkpoint_is_named(tmp_path, share):
    path = tmp_path / "seed0.pt"
    mnist.save(path, mnist.build("small"), {"architecture": "small"})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"seed0.pt is damaged"):
        mnist.load(path)


def test_a_flipped_bit_in_the_weights_is_found(tmp_path):
    path = tmp_path / "seed0.pt"
    module = mnist.build("small")
    mnist.save(path, module, {"architecture": "small"})
    content = bytearray(path.read_bytes())
    place = content.index(module[0].bias.detach().numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"seed0.pt is damaged"):
        mnist.load(path)


def test_text_and_whole_modules_are_no_checkpoints(tmp_path):
    path = tmp_path / "seed0.pt"
    path.write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"seed0.pt is damaged or no checkpoint"):
        mnist.load(path)
    torch.save(mnist.build("small"), path)
    with pytest.raises(CheckpointError, match=r"seed0.pt is damaged or no checkpoint"):
        mnist.load(path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        torch.zeros(3),
        {"weights": {}},
        {"weights": {}, "metadata": {"architecture": "tiny"}},
        {"weights": {}, "metadata": {"architecture": ["small"]}},
        {"weights": mnist.build("large").state_dict(), "metadata": {"architecture": "small"}},
        {"weights": 3, "metadata": {"architecture": "small"}},
    ],
)
def test_foreign_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "seed0.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"seed0.pt does not hold"):
        mnist.load(path)


def test_save_refuses_what_load_could_not_read(tmp_path):
    with pytest.raises(LipboundsError, match="unknown architecture"):
        mnist.save(tmp_path / "a.pt", mnist.build("small"), {"architecture": "tiny"})
    with pytest.raises(LipboundsError, match="not of architecture 'large'"):
        mnist.save(tmp_path / "a.pt", mnist.build("small"), {"architecture": "large"})
    assert list(tmp_path.iterdir()) == []
