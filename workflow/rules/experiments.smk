# What each experiment is made of and what is made of it: from this alone follow the files, the
# rules that make them, and the places they have in the report.
from typing import NamedTuple


class Experiment(NamedTuple):
    """title: its category in the report. parts: the tables of its jobs, which make up its own.
    figures, tables: what is drawn and printed from that one, by the names of the functions in
    lipbounds.studies, with what the report says of each; workflow/report has a caption of the name.
    """

    title: str
    parts: list[str]
    figures: dict[str, str]
    tables: dict[str, str] = {}


def name_of(network):
    """The name of a network of test 5 in files and tables."""
    if "sizes" in network:
        return f"gaussian_{'-'.join(map(str, network['sizes']))}"
    if "architecture" in network:
        return f"mnist_{network['architecture']}"
    return f"{network['family']}_level{network['level']}"


# Test 5: the networks, and the two ladders on which their size grows.
LADDERS = {
    "networks": [(network, {}) for network in config["comparison"]["networks"]],
    "width": [
        ({"sizes": [8, width, width, 4]}, {"width": width, "depth": 2})
        for width in config["comparison"]["widths"]
    ],
    "depth": [
        ({"sizes": [8] * (depth + 1) + [4]}, {"width": 8, "depth": depth})
        for depth in config["comparison"]["depths"]
    ],
}
COMPARED = {
    ladder: {name_of(network): {"described": network, "size": size} for network, size in rungs}
    for ladder, rungs in LADDERS.items()
}
FAMILIES = {  # of tests 1 and 2, with their levels
    family: config["analytic"][test]["levels"]
    for test in ("test1", "test2")
    for family in config["analytic"][test]["families"]
}
EXPERIMENTS = {
    "test1": Experiment(
        "1 Analytical networks, simplest form",
        expand(
            f"{RESULTS}/analytic/{{family}}.csv", family=config["analytic"]["test1"]["families"]
        ),
        figures={
            "test1_bounds": "bounds against levels",
            "test1_writings": "one function, three networks",
        },
    ),
    "test2": Experiment(
        "2 Analytical networks, second form",
        expand(
            f"{RESULTS}/analytic/{{family}}.csv", family=config["analytic"]["test2"]["families"]
        ),
        figures={"test2_bounds": "bounds against levels"},
    ),
    "test3": Experiment(
        "3 Random networks",
        expand(
            f"{RESULTS}/random/{{distribution}}_depth{{depth}}.csv",
            distribution=config["random"]["distributions"],
            depth=config["random"]["depths"],
        ),
        figures={
            "test3_depth": "bounds over K_4 against depth",
            "test3_width": "bounds over K_4 against width",
            "test3_spread": "spread of the bounds",
            "test3_relaxation": "bounds over the relaxation optimum",
        },
        tables={"test3_relations": "relations of the bounds"},
    ),
    "test4": Experiment(
        "4 MNIST",
        expand(
            f"{RESULTS}/mnist/{{architecture}}/seed{{seed}}.csv",
            architecture=config["mnist"]["architectures"],
            seed=config["mnist"]["seeds"],
        ),
        figures={
            "test4_bounds": "bounds of the CNNs",
            "test4_treatments": "explicit against implicit",
        },
        tables={"test4_paper": "bounds of the CNNs"},
    ),
    "test5": Experiment(
        "5 Comparison",
        [
            f"{RESULTS}/comparison/{ladder}/{network}.csv"
            for ladder, networks in COMPARED.items()
            for network in networks
        ],
        figures={
            "test5_pareto": "tightness against seconds",
            "test5_growth": "growth with width and depth",
        },
        tables={"test5_comparison": "all methods beside the truth"},
    ),
}


def trained(wildcards):
    """What a trained network of test 5 is made from; nothing for the others."""
    described = COMPARED[wildcards.ladder][wildcards.network]["described"]
    if "architecture" not in described:
        return {}
    return {
        "checkpoint": "{RESULTS}/mnist/{architecture}/seed{seed}.pt".format(
            RESULTS=RESULTS, seed=config["comparison"]["seed"], **described
        ),
        "mnist": [ancient(file) for file in MNIST_FILES],
    }


def table_of(test):
    """The one table of all rows of an experiment."""
    return f"{RESULTS}/tables/{test}.csv"


def drawn(*tests):
    """By table: the figures drawn from it, each with its two files."""
    return {
        table_of(test): {
            figure: [f"{RESULTS}/figures/{figure}.{suffix}" for suffix in ("png", "pdf")]
            for figure in EXPERIMENTS[test].figures
        }
        for test in tests
    }


def printed(table):
    """The files of a derived table, but for the one in the report."""
    return [f"{RESULTS}/tables/{table}.{suffix}" for suffix in ("csv", "md", "tex")]


def results(test):
    """All that is made of one experiment."""
    made = EXPERIMENTS[test]
    figures = [file for files in drawn(test)[table_of(test)].values() for file in files]
    tables = [
        file
        for table in made.tables
        for file in [*printed(table), f"{RESULTS}/tables/{table}.html"]
    ]
    return [table_of(test), *tables, *figures]
