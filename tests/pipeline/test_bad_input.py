"""A user's mistake: a message that names it, before any work, and an exit status other than 0."""

import re

import pytest
import yaml

from lipbounds.methods.registry import BOUNDS, PAPER
from lipbounds.studies.cases.analytic import CASES
from lipbounds.studies.cases.mnist import ARCHITECTURES
from lipbounds.studies.cases.random import DISTRIBUTIONS

pytestmark = pytest.mark.pipeline


@pytest.mark.parametrize(
    "mistake, named",
    [
        ("colour: red", "colour"),
        ("random: {sample: 3}", "random: .*sample"),
        ("random: {samples: many}", "random.samples: .*many"),
        ("norms: []", "norms: "),
        ("bounds: [K_4, K_6]", "bounds.1: .*K_6"),
        ("bounds: [K_4, K_4]", "bounds: .*unique"),
        ("mnist: {architectures: [resnet]}", "mnist.architectures.0: .*resnet"),
        ("random: {limits: {K_5: {samples: 0}}}", "random.limits.K_5.samples: .*0"),
        ("random: {limits: {K_5: {neurons: {3: 10}}}}", "random.limits.K_5.neurons: .*3"),
        ("random: {limits: {K_4: {samples: 3}}}", "random.limits: K_4"),
        ("random: {k5_samples: 3}", "random: .*k5_samples"),
        ("mnist: {options: {K_5: {budget: 3}}}", "mnist.options.K_5: .*budget"),
        ("mnist: {options: {K_6: {seconds: 3}}}", "mnist.options: .*K_6"),
        ("comparison: {networks: [gaussian_3-4]}", "comparison.networks.0: .*gaussian_3-4"),
        ("comparison: {networks: [{sizes: [3]}]}", "comparison.networks.0: .*sizes"),
        ("norms: [1]", "bounds: K_2 .*norms"),
        ("random: {widths: [64]}", "random.enumerated_neurons"),
    ],
)
def test_configuration(workflow, mistake, named):
    (workflow.directory / "mistake.yaml").write_text(mistake)
    run = workflow.snakemake("--dry-run", "--configfile", "mistake.yaml")
    assert run.returncode != 0
    assert re.search(named, run.stdout), run.stdout
    assert "Traceback" not in run.stdout and "Job stats" not in run.stdout


def test_no_source_of_mnist(workflow):
    mnist = "{sources: [local], local: data/nowhere}"
    file = "data/none/mnist/MNIST/raw/train-images-idx3-ubyte"
    run = workflow.snakemake("--config", "data=data/none", f"mnist={mnist}", "--", file)
    assert run.returncode != 0
    assert "data/nowhere is not a directory" in run.stdout
    assert "Traceback" not in run.stdout
    assert not (workflow.directory / file).exists()


def test_schema_knows_what_the_package_knows(workflow):
    """Each name that the configuration may give is one of the package's, and none is missing."""
    schema = yaml.safe_load((workflow.directory / "config/schema.yaml").read_text())
    top = schema["properties"]
    analytic = top["analytic"]["properties"]
    assert schema["$defs"]["bound"]["enum"] == [*PAPER, "K_5"]
    options = schema["$defs"]["options"]
    for name in schema["$defs"]["bound"]["enum"]:
        known = options["properties"].get(name, options["additionalProperties"])["properties"]
        assert {*known} == {*BOUNDS[name].options} - {"progress"}
    for test in ("test1", "test2"):
        families = analytic[test]["properties"]["families"]["items"]["enum"]
        assert families == [family for family, case in CASES.items() if case.test == test]
    distributions = top["random"]["properties"]["distributions"]["items"]["enum"]
    assert set(distributions) == set(DISTRIBUTIONS)
    assert set(top["comparison"]["properties"]["methods"]["items"]["enum"]) == set(BOUNDS)
    assert schema["$defs"]["architecture"]["enum"] == list(ARCHITECTURES)
