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
    "bounds/eclipse",
    "bounds/equivalence",
    "bounds/geolip",
    "bounds/krivine",
    "bounds/liplt",
    "bounds/lipopt",
    "bounds/lipsdp",
    "bounds/maximum",
    "bounds/monotone",
    "bounds/path_norm",
    "bounds/product",
    "bounds/seqlip",
    "quadratic",
    "results",
    "solvers",
)
METHODS += package(  # K_5
    "barrier",
    "best_first",
    "bounds/ellipsoidal",
    "descent",
    "elimination",
    "feasibility",
    "forms",
    "layered",
    "links",
    "mixed_forms",
    "proof",
    "tridiagonal",
)
TRUTH = package(
    "reference/__init__",
    "reference/ascent",
    "reference/exact",
    "reference/faces",
    "reference/lower",
    "reference/milp",
    "reference/phases",
    "reference/pieces",
    "reference/relaxation",
    "reference/sampling",
    "reference/sign_ascent",
    "reference/sign_chain",
    "reference/sign_tree",
    "reference/tail_averaged",
    "reference/tail_quadratic",
    "reference/witness",
    "truth",
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
        "compare": NETWORKS
        + METHODS
        + TIDY
        + CNNS
        + TRUTH
        + package("cases/analytic", "cases/comparison", "cases/random", "comparison"),
        "collect": TIDY,
        "table_relations": TIDY + package("tables"),
        "table_paper": TIDY + package("tables"),
        "table_comparison": TIDY + package("tables"),
        "figures": TIDY
        + package(
            "plotting/__init__",
            "plotting/analytic",
            "plotting/comparison",
            "plotting/mnist",
            "plotting/random",
            "plotting/style",
            "tables",
        ),
    }.items()
}
