"""One network of a campaign: every method against the oracles, and what came of it."""

import math
import warnings
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

import lipbounds as lb
from lipbounds.methods.monotone import norm_from_map
from lipbounds.methods.registry import Method
from lipbounds.networks.cut import Parts
from lipbounds.quadratic.fourier.descent import descend
from lipbounds.quadratic.fourier.elimination import TorusElimination
from lipbounds.quadratic.fourier.embedding import embeddings
from lipbounds.quadratic.fourier.proof import proven

from . import oracles
from .networks import FAMILIES

NORMS = (1, 2, math.inf)
FAST = ("K_star", "K_1", "K_3", "K_4", "K_4 in parts", "path_norm", "liplt", "eclipse_fast",
        "sensitivity K_4", "K_5 by Fourier")  # fmt: skip
SLOW = ("K_2", "K_5", "best", "lipsdp_neuron", "lipsdp_layer", "eclipse", "geolip", "lipopt",
        "norm_equivalence", "D_star", "exact", "lower_bound", "sensitivity K_5",
        "influence")  # fmt: skip
OPTIONS = {"seconds": 5, "budget": 1e4}


@dataclass
class Tally:
    """Of one method in one norm: checks, refusals, how near the closest came, violations."""

    networks: int = 0
    refused: int = 0
    least: float = math.inf
    violations: list = field(default_factory=list)

    def add(self, other):
        self.networks += other.networks
        self.refused += other.refused
        self.least = min(self.least, other.least)
        self.violations += other.violations


@dataclass
class Result:
    tallies: dict = field(default_factory=dict)
    pairs: int = 0
    networks: int = 0

    def tally(self, method, norm):
        return self.tallies.setdefault((method, norm), Tally())

    def add(self, other):
        for key, tally in other.tallies.items():
            self.tally(*key).add(tally)
        self.pairs += other.pairs
        self.networks += other.networks

    @property
    def violations(self):
        return [v for tally in self.tallies.values() for v in tally.violations]


def case_of(seed, index):
    rng = np.random.default_rng([seed, index])
    return FAMILIES[index % len(FAMILIES)](rng), rng


def methods_of(index, every):
    """All fast methods, and one slow one in turn on every n-th network of each family."""
    turn, family = divmod(index, len(FAMILIES))
    if every and turn % every == 0:
        return (*FAST, SLOW[(5 * (turn // every) + family) % len(SLOW)])
    return FAST


def audit(seed, index, pairs=10, every=8, methods=None, run=None):
    """The Result of network `index`; run(network, method, norm, treatment), default `values`."""
    case, rng = case_of(seed, index)
    chosen = methods or methods_of(index, every)
    result = Result(networks=len(case.chains))
    truth = Truth(case, rng, pairs, result)
    try:
        network = case.build()
    except lb.LipboundsError as error:  # each of these networks can be had
        call = Call("import", math.inf, "implicit", seed, index, pairs, case)
        result.tally("import", math.inf).violations.append(call.says(f"refused: {error}"[:150]))
        return result
    for method in chosen:
        for norm in norms_of(method):
            for treatment in ("explicit", "implicit") if case.pooled else ("implicit",):
                call = Call(method, norm, treatment, seed, index, pairs, case)
                one(call, network, truth, result, run)
    return result


def norms_of(method):
    if method.startswith("sensitivity"):
        return (math.inf,)
    if method == "influence":
        return (1,)
    if method == "exact":
        return (1, math.inf)
    if method == "K_5 by Fourier":
        return (2,)
    return tuple(lb.BOUNDS[method].norms) if method in lb.BOUNDS else NORMS


@dataclass(frozen=True)
class Call:
    method: str
    norm: float
    treatment: str
    seed: int
    index: int
    pairs: int
    case: object

    def says(self, what):
        line = (f"python -m audit --seed {self.seed} --only {self.index} --pairs {self.pairs} "
                f"--method '{self.method}'")  # fmt: skip
        where = f"{self.case.family}, {self.method}, l{self.norm:g}, {self.treatment}"
        return f"{where}: {what}\n    {line}"


class Truth:
    """Lower ends of one case, per member: of D* by vertices and of the constant by secants."""

    def __init__(self, case, rng, pairs, result):
        self.case, self.radii = case, 2.0 ** rng.integers(-2, 3, case.chains[0][0][1].shape[1])
        self.vertices = [] if case.pooled else [
            oracles.vertex_jacobians(chain, rng) for chain in case.chains
        ]  # fmt: skip
        self.secants = {norm: [] for norm in NORMS}
        for norm in NORMS:
            for chain in case.chains:
                found, tried = oracles.attack(chain, norm, pairs // 3 + 1, rng)
                self.secants[norm].append(found)
                result.pairs += tried
        self.optima = {}

    def of(self, method, norm):
        if method in ("exact", "lower_bound") or not self.vertices:
            return self.secants[norm]
        if norm not in self.optima:
            self.optima[norm] = [
                max(oracles.vertex_oracle(jacobians, e, norm), secant)
                for (jacobians, e, _), secant in zip(self.vertices, self.secants[norm], strict=True)
            ]
        return self.optima[norm]

    def rows(self, member):
        jacobians, e, _ = self.vertices[member]
        return oracles.row_oracle(jacobians, e, self.radii)

    def columns(self, member):
        jacobians, e, _ = self.vertices[member]
        return oracles.column_oracle(jacobians, e)


def values(network, method, norm, treatment, radii):
    """What the package returns: an array of bounds, or an object with more to check."""
    if method.startswith("sensitivity"):
        options = {"seconds": OPTIONS["seconds"]} if method.endswith("5") else {}
        return np.asarray(lb.sensitivity(network, radii, method.split()[1], **options))
    if method == "influence":
        return np.asarray(lb.influence(network))
    if method == "K_4 in parts":
        return lb.Bound(Method(method, in_parts, method).upper(network, norm))
    if method == "K_5 by Fourier":
        return lb.Bound(Method(method, by_fourier, method, (2,)).upper(network, norm))
    if method == "D_star":
        return lb.relaxation_optimum(network, norm, seconds=OPTIONS["seconds"])
    if method == "exact":
        return lb.exact(network, norm, seconds=OPTIONS["seconds"])
    if method == "lower_bound":
        return lb.lower_bound(network, norm, seconds=0.3)
    has = lb.BOUNDS[method].options
    options = {name: value for name, value in OPTIONS.items() if name in has}
    return lb.bound(network, method, norm, treatment, **options)


def in_parts(network, norm):
    """K_4 cut at every second stage, as it is where time is short."""
    parts = Parts(network, 2)
    return norm_from_map(network, norm, parts.forward, parts.adjoint)


def by_fourier(network, norm):
    """The least K_5 on a torus, after a few steps, of all layers at which it may be left."""
    found = []
    for torus in embeddings(network):
        elimination = TorusElimination(torus)
        found.append(proven(elimination, descend(elimination, elimination.start(), 12)))
    return min(found, key=float)


def one(call, network, truth, result, run):
    """One method on one network in one norm and treatment."""
    if call.treatment == "explicit" and call.method not in lb.BOUNDS:
        return
    tally = result.tally(call.method, call.norm)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = (run or values)(network, call.method, call.norm, call.treatment, truth.radii)
    except lb.LipboundsError:
        tally.refused += 1
        return
    except Exception as error:  # any other is a violation, and named
        tally.violations.append(call.says(f"{type(error).__name__}: {error}"[:150]))
        return
    tally.networks += 1
    for what, over in compared(call, got, truth):
        if math.isnan(over):
            tally.violations.append(call.says("not a finite number"))
        elif over < 0:
            tally.violations.append(call.says(f"{what} by a relative {over:.3g}"))
        elif math.isfinite(over):
            tally.least = min(tally.least, over)


def compared(call, got, truth):
    """(what is too small or too large, its relative distance) for each thing that can be."""
    if call.method.startswith("sensitivity"):
        yield from compared_each(got, truth, truth.rows, math.inf)
        return
    if call.method == "influence":
        yield from compared_each(got, truth, truth.columns, 1)
        return
    lowers = truth.of(call.method, call.norm)
    if call.method == "lower_bound":
        yield from compared_witness(call, got.lower, got.witness)
        return
    for value, lower in zip(np.reshape(got.upper, -1), lowers, strict=True):
        yield "too small", over(value, lower, call.norm)
    if call.method == "exact":
        yield from compared_witness(call, got.lower, got.witness)
    if call.method == "D_star" and call.norm != 2 and truth.vertices and truth.vertices[0][2]:
        yield "lower end above the optimum", under(got.lower, lowers[0], call.norm)


def over(value, truth, norm):
    """value / truth - 1, or NaN where the value is not a number to compare."""
    value = float(value)
    return oracles.excess(value, truth, norm) if math.isfinite(value) else math.nan


def under(value, truth, norm):
    """1 - value / truth: how far a lower end stays below."""
    if value is None or value <= 0 or math.isnan(value):
        return math.inf
    return -over(value, truth, norm) if truth > 0 else -1.0


def compared_witness(call, value, witness):
    if witness is not None and value is not None and value > 0:
        x, y = (np.asarray(end, dtype=float) for end in witness)
        truth = oracles.secant(call.case.chains[0], x, y, call.norm)
        yield "lower end above its witness", under(value, truth, call.norm)


def compared_each(got, truth, of_member, norm):
    """Of each output, or of each input."""
    if not truth.vertices:
        return
    got = got.reshape(len(truth.case.chains), -1)
    for member, bounds in enumerate(got):
        for value, lower in zip(bounds, of_member(member), strict=True):
            yield "too small", over(value, Fraction(lower), norm)
