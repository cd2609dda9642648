"""One MNIST network, trained: its checkpoint, and its accuracy and size in JSON."""

import json
from typing import TYPE_CHECKING

from lipbounds.studies.cases import mnist
from lipbounds.studies.files import write_text
from lipbounds.studies.mnist_files import load

from job import progress, run

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    architecture: str,
    seed: int,
    directory: str,
    training_images: int,
    training: dict[str, float],
    checkpoint: str,
    summary: str,
) -> None:
    """directory: of MNIST. training: the further arguments of `mnist.train`."""
    name = f"{architecture}, seed {seed}"
    images, labels = load(directory, train=True)
    module = mnist.train(
        architecture,
        seed,
        images[:training_images],
        labels[:training_images],
        **training,
        progress=lambda epoch, epochs, loss: progress.info(
            "%s: epoch %d of %d, loss %.4f", name, epoch, epochs, loss
        ),
    )
    metadata = {
        "architecture": architecture,
        "seed": seed,
        "accuracy": mnist.accuracy(module, *load(directory, train=False)),
        "parameters": mnist.parameters(module),
        "training_images": training_images,
        **training,
    }
    progress.info("%s: %.2f %% of the test images", name, 100 * metadata["accuracy"])
    mnist.save(checkpoint, module, metadata)
    write_text(json.dumps(metadata, indent=2) + "\n", summary)


if "snakemake" in globals():
    run(main, snakemake)
