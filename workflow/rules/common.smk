# What the configuration says, checked and worked out: no rules.
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator


def faults(config):
    """What is wrong with the configuration, a line for each fault; an empty list if nothing is."""
    with open(Path(workflow.basedir) / "config/schema.yaml") as file:
        schema = yaml.safe_load(file)
    found = [
        f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}"
        for error in Draft202012Validator(schema).iter_errors(config)
    ]
    return found or contradictions(config)


def contradictions(config):
    """The values that are right by themselves and wrong together."""
    if "K_2" in config["bounds"] and 2 not in config["norms"]:
        yield "bounds: K_2 exists in l2 only, but norms lacks 2"
    random, mnist = config["random"], config["mnist"]
    largest = max(random["enumerated_neurons"].get(norm, 0) for norm in config["norms"])
    if min(random["depths"]) * min(random["widths"]) > largest:
        yield "random.enumerated_neurons: no network of these depths and widths is so small"
    if "K_4" in random["limits"]:
        yield "random.limits: K_4 is what the figures divide by; it has no limits"
    compared = [network.get("architecture") for network in config["comparison"]["networks"]]
    for architecture in [*mnist["architectures"], *filter(None, compared)]:
        if architecture not in mnist["epochs"]:
            yield f"mnist.epochs: says nothing of the architecture {architecture}"


def by_norm(values):
    """A value for each norm, as the package has them: floats."""
    return {float(norm): value for norm, value in values.items()}


if found := list(faults(config)):
    raise WorkflowError("The configuration is not valid.", *found)


RESULTS = config["results"].rstrip("/")
MNIST = f"{config['data'].rstrip('/')}/mnist"
MNIST_FILES = [
    f"{MNIST}/MNIST/raw/{name}-ubyte"
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
]
BOUNDS = config["bounds"]
NORMS = [float(norm) for norm in config["norms"]]
