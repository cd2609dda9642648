"""K_5 in l-infinity of trained MLPs: `python benchmarks/trained.py MNIST CHECKPOINTS [seconds]`.

MNIST: a directory for its files; CHECKPOINTS: where the networks are, and where those that are
missing are written once trained. For each, the bound after so many processor seconds (100: nearly a
minute on two cores) and after ten times as many, and their ratio. Networks with rescaled, faint
and twin neurons are made from the first one.
"""

import argparse
import copy
import itertools
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import lipbounds as lb
from lipbounds.clock import processor_time
from lipbounds.studies import mnist_files

WIDTH, BATCH = 256, 128
KINDS = ("rescaled", "faint", "twin")
NETWORKS = {  # hidden stages, optimiser, learning rate, weight decay, epochs, seed, standardised
    "adam6": (6, "adam", 1e-3, 0.0, 4, 0, False),
    "adam6b": (6, "adam", 1e-3, 0.0, 4, 1, False),
    "adam6d": (6, "adam", 1e-3, 1e-4, 4, 0, False),
    "adam6e": (6, "adam", 1e-3, 0.0, 12, 2, False),
    "adam6n": (6, "adam", 2e-3, 0.0, 8, 3, True),
    "sgd6": (6, "sgd", 0.05, 0.0, 6, 0, False),
    "sgd6d": (6, "sgd", 0.05, 1e-4, 6, 1, False),
    "adam4": (4, "adam", 1e-3, 0.0, 4, 0, False),
    "sgd4d": (4, "sgd", 0.05, 1e-4, 6, 0, False),
    "adam2": (2, "adam", 1e-3, 0.0, 4, 0, False),
}


def built(depth: int) -> nn.Sequential:
    sizes = [784, *[WIDTH] * depth]
    layers = [nn.Flatten()]
    for before, after in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def trained(images: Tensor, labels: Tensor, recipe: tuple) -> nn.Sequential:
    depth, optimiser, rate, decay, epochs, seed, standardised = recipe
    torch.manual_seed(seed)
    module, pixels = built(depth), images.float() / 255
    if standardised:
        pixels = (pixels - 0.1307) / 0.3081
    if optimiser == "adam":
        method = torch.optim.Adam(module.parameters(), lr=rate, weight_decay=decay)
    else:
        method = torch.optim.SGD(module.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    for _ in range(epochs):
        for batch in torch.randperm(len(pixels)).split(BATCH):
            method.zero_grad()
            nn.functional.cross_entropy(module(pixels[batch]), labels[batch]).backward()
            method.step()
    return module.eval()


def modules(mnist: Path, checkpoints: Path) -> dict[str, nn.Sequential]:
    """The networks by name, trained where they are not there."""
    found, data = {}, None
    for name, recipe in NETWORKS.items():
        path = checkpoints / f"{name}.pt"
        if not path.exists():
            if data is None:
                mnist_files.fetch(mnist)
                data = mnist_files.load(mnist, train=True)
            begin = time.process_time()
            torch.save(trained(*data, recipe).state_dict(), path)
            print(f"{name}: trained in {time.process_time() - begin:.0f} s", flush=True)
        found[name] = built(recipe[0])
        found[name].load_state_dict(torch.load(path, weights_only=True))
    return found


def scaled(module: nn.Sequential, kind: str) -> nn.Sequential:
    """The network with its hidden neurons "rescaled" by 1e-6 to 1e6, which changes nothing, or
    every eighth "faint" (weights in times 1e-8) or "twin" (the next neuron is it again)."""
    module, generator = copy.deepcopy(module).double(), torch.Generator().manual_seed(0)
    layers = [layer for layer in module if isinstance(layer, nn.Linear)]
    for before, after in itertools.pairwise(layers):
        if kind == "rescaled":
            scale = 10 ** (12 * torch.rand(WIDTH, generator=generator, dtype=torch.float64) - 6)
            before.weight.data *= scale.unsqueeze(-1)
            before.bias.data *= scale
            after.weight.data /= scale
        elif kind == "faint":
            before.weight.data[::8] *= 1e-8
        else:
            before.weight.data[1::8] = before.weight.data[::8]
            before.bias.data[1::8] = before.bias.data[::8]
    return module


def main(mnist: Path, checkpoints: Path, seconds: float, names: list[str]) -> None:
    networks = modules(mnist, checkpoints)
    first = next(iter(networks.values()))
    networks |= {f"{next(iter(NETWORKS))}-{kind}": scaled(first, kind) for kind in KINDS}
    print(f"K_5 in l-infinity; {seconds:g} and {10 * seconds:g} processor seconds, one thread")
    print("network           K_4        K_5    tenfold  ratio  status")
    torch.set_num_threads(1)
    for name in names or networks:
        network = lb.from_torch(networks[name], input_shape=(784,))
        k4 = lb.bound(network, "K_4", math.inf).upper
        with processor_time():
            short, long = (
                lb.bound(network, "K_5", math.inf, seconds=s) for s in (seconds, 10 * seconds)
            )
        ratio = short.upper / long.upper
        print(
            f"{name:14} {k4:10.4g} {short.upper:10.5g} {long.upper:10.5g} {ratio:6.3f}  "
            f"{short.status.value}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", type=Path)
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("seconds", nargs="?", type=float, default=100.0)
    parser.add_argument("--only", nargs="*", default=[], help="names of networks")
    given = parser.parse_args()
    main(given.mnist, given.checkpoints, given.seconds, given.only)
