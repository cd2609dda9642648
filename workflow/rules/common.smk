# What the configuration says, checked and worked out: names and files, no rules.
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
    if min(random["depths"]) * min(random["widths"]) > random["enumerated_neurons"]:
        yield "random.enumerated_neurons: no network of these depths and widths is so small"
    compared = [name.removeprefix("mnist_") for name in trained_networks(config)]
    for architecture in [*mnist["architectures"], *compared]:
        if architecture not in mnist["epochs"]:
            yield f"mnist.epochs: says nothing of the architecture {architecture}"


def trained_networks(config):
    """The networks of test 5 that are trained ones."""
    return [name for name in config["comparison"]["networks"] if name.startswith("mnist_")]


if found := list(faults(config)):
    raise WorkflowError("The configuration is not valid.", *found)


RESULTS = config["results"].rstrip("/")
MNIST_FILES = [
    f"{config['data'].rstrip('/')}/mnist/MNIST/raw/{name}-ubyte"
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
]
BOUNDS = config["bounds"]
NORMS = [float(norm) for norm in config["norms"]]

TESTS = ["test1", "test2", "test3", "test4", "test5"]
FAMILIES = {
    family: test for test in config["analytic"] for family in config["analytic"][test]["families"]
}
COMPARED = {  # test 5: the networks, and the two ladders on which their size grows
    "networks": {name: {} for name in config["comparison"]["networks"]},
    "width": {
        f"gaussian_8-{width}-{width}-4": {"width": width, "depth": 2}
        for width in config["comparison"]["widths"]
    },
    "depth": {
        f"gaussian_8-{'8-' * depth}4": {"width": 8, "depth": depth}
        for depth in config["comparison"]["depths"]
    },
}


def trained(wildcards):
    """What a trained network of test 5 is made from; nothing for the others."""
    if wildcards.network not in trained_networks(config):
        return {}
    architecture = wildcards.network.removeprefix("mnist_")
    seed = config["comparison"]["seed"]
    return {
        "checkpoint": f"{RESULTS}/mnist/{architecture}/seed{seed}.pt",
        "mnist": [ancient(file) for file in MNIST_FILES],
    }


PARTS = {  # the tables of single jobs that make up each test's
    **{
        test: expand(
            f"{RESULTS}/analytic/{{family}}.csv", family=config["analytic"][test]["families"]
        )
        for test in config["analytic"]
    },
    "test3": expand(
        f"{RESULTS}/random/{{distribution}}_depth{{depth}}.csv",
        distribution=config["random"]["distributions"],
        depth=config["random"]["depths"],
    ),
    "test4": expand(
        f"{RESULTS}/mnist/{{architecture}}/seed{{seed}}.csv",
        architecture=config["mnist"]["architectures"],
        seed=config["mnist"]["seeds"],
    ),
    "test5": [
        f"{RESULTS}/comparison/{ladder}/{network}.csv"
        for ladder, networks in COMPARED.items()
        for network in networks
    ],
}
FIGURES = {  # drawn from each test's table, with a caption in workflow/report
    "test1": {
        "test1_bounds": "bounds against levels",
        "test1_writings": "one function, three networks",
    },
    "test2": {"test2_bounds": "bounds against levels"},
    "test3": {
        "test3_depth": "bounds over K_4 against depth",
        "test3_width": "bounds over K_4 against width",
        "test3_spread": "spread of the bounds",
        "test3_relaxation": "bounds over the relaxation optimum",
    },
    "test4": {
        "test4_bounds": "bounds of the CNNs",
        "test4_treatments": "explicit against implicit",
    },
    "test5": {
        "test5_pareto": "tightness against seconds",
        "test5_growth": "growth with width and depth",
    },
}
FIGURE_FILES = [
    f"{RESULTS}/figures/{figure}.{suffix}"
    for test in TESTS
    for figure in FIGURES[test]
    for suffix in ("png", "pdf")
]
TEST_TABLES = expand(f"{RESULTS}/tables/{{test}}.csv", test=TESTS)
RELATIONS = expand(f"{RESULTS}/tables/test3_relations.{{suffix}}", suffix=["csv", "md", "html"])
PAPER = expand(f"{RESULTS}/tables/test4_paper.{{suffix}}", suffix=["csv", "md", "tex", "html"])
COMPARISON = expand(
    f"{RESULTS}/tables/test5_comparison.{{suffix}}", suffix=["csv", "md", "tex", "html"]
)
TABLE_FILES = [*TEST_TABLES, f"{RESULTS}/tables/all.csv", *RELATIONS, *PAPER, *COMPARISON]
CATEGORIES = {
    "test1": "1 Analytical networks, simplest form",
    "test2": "2 Analytical networks, second form",
    "test3": "3 Random networks",
    "test4": "4 MNIST",
    "test5": "5 Comparison",
}
