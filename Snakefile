# Everything: snakemake -j8. One experiment: test1 ... test5. All figures again, from the tables that
# exist: figures. Any single file by its name. With small numbers: --configfile config/quick.yaml.
from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/experiments.smk"
include: "workflow/rules/modules.smk"
include: "workflow/rules/analytic.smk"
include: "workflow/rules/random.smk"
include: "workflow/rules/mnist.smk"
include: "workflow/rules/comparison.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/figures.smk"


wildcard_constraints:
    test="|".join(EXPERIMENTS),
    family="|".join(FAMILIES),
    distribution="|".join(config["random"]["distributions"]),
    depth=r"\d+",
    architecture="|".join(config["mnist"]["epochs"]),
    ladder="|".join(COMPARED),
    seed=r"\d+",


rule all:
    default_target: True
    input:
        list(map(results, EXPERIMENTS)),
        table_of("all"),


for test in EXPERIMENTS:

    rule:
        name:
            test
        input:
            results(test),
