# The files of the package that each script imports, directly or not. Snakemake sees a changed script
# but not a changed module, so they are inputs: a changed formula makes its rows again, a changed
# plot or printed table only that. tests/pipeline/test_modules.py compares this with the imports.
def package(*names):
    return [f"src/lipbounds/{name}.py" for name in names]


TIDY = package("errors", "files", "tidy")
NETWORKS = package(
    "activations",
    "convert",
    "errors",
    "network",
    "norms",
    "operators",
    "rewrite",
    "rounding",
    "rows",
    "segments",
    "stages",
    "windows",
)
METHODS = package(
    "bounds/__init__",
    "bounds/absolute",
    "bounds/averaged",
    "bounds/best",
    "bounds/combettes_pesquet",
    "bounds/equivalence",
    "bounds/liplt",
    "bounds/maximum",
    "bounds/monotone",
    "bounds/path_norm",
    "bounds/product",
    "bounds/seqlip",
    "results",
)
CNNS = package("cases/__init__", "cases/mnist", "errors", "files", "mnist_files", "torchvision_cpu")

MODULES = {  # sorted, each once
    script: sorted(set(files))
    for script, files in {
        "bounds_analytic": NETWORKS
        + METHODS
        + TIDY
        + package("cases/__init__", "cases/analytic", "reference/__init__", "reference/pieces"),
        "bounds_random": NETWORKS
        + METHODS
        + TIDY
        + package("cases/__init__", "cases/random", "reference/__init__", "reference/enumeration"),
        "train_mnist": CNNS,
        "bounds_mnist": NETWORKS
        + METHODS
        + TIDY
        + CNNS
        + package("reference/__init__", "reference/sampling"),
        "collect": TIDY,
        "table_relations": TIDY + package("tables"),
        "table_paper": TIDY + package("tables"),
        "figures": TIDY + package("plotting", "tables"),
    }.items()
}
