"""Safe bounds of linear programs against a solver, with good, bad and broken multipliers."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csc_matrix
from test_exact import random_network

from lipbounds.truth.milp import Instance, PhaseProgram, Relaxation
from lipbounds.truth.phases import (
    FREE,
    chain,
    columns_of_jacobian,
    point_ranges,
    rows_of_jacobian,
    signed,
    tangent_ranges,
)
from lipbounds.truth.witness import cell, pattern_at


def random_program(seed, rows=6, columns=5):
    """A feasible program with one-sided, two-sided and equality rows."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, columns)) * rng.integers(0, 2, (rows, columns))
    low, high = -rng.uniform(0, 2, columns), rng.uniform(0, 2, columns)
    middle = matrix @ rng.uniform(low, high)
    lower, upper = middle - rng.uniform(0, 1, rows), middle + rng.uniform(0, 1, rows)
    lower[0], upper[1] = -math.inf, math.inf
    lower[2] = upper[2] = middle[2]
    instance = Instance(csc_matrix(matrix), lower, upper, low, high)
    return instance, rng.standard_normal(columns), rng


def optimum(instance, objective):
    """By another route: inequalities both ways, and SciPy's interior point method."""
    matrix = instance.matrix.toarray()
    rows = np.vstack([matrix, -matrix])
    right = np.concatenate([instance.upper, -instance.lower])
    bounds = list(zip(instance.low, instance.high, strict=True))
    kept = np.isfinite(right)
    return linprog(-objective, rows[kept], right[kept], bounds=bounds, method="highs-ipm")


@pytest.mark.parametrize("seed", range(20))
def test_every_multiplier_gives_a_bound_and_the_solver_a_tight_one(seed):
    instance, objective, rng = random_program(seed)
    value = -optimum(instance, objective).fun
    bound, x, basis, v = Relaxation().solve(instance, objective, None, 10.0)
    assert value - 1e-9 <= bound <= value + 1e-9 * (1 + abs(value))
    assert objective @ x == pytest.approx(value, abs=1e-8)
    for _ in range(20):
        assert instance.safe_bound(objective, v + rng.standard_normal(len(v))) >= value - 1e-12
    for broken in (math.nan, math.inf, -math.inf):
        multipliers = v.copy()
        multipliers[rng.integers(len(v))] = broken
        assert instance.safe_bound(objective, multipliers) >= value - 1e-12
    again, _, _, _ = Relaxation().solve(instance, objective, basis, 10.0)
    assert again == pytest.approx(bound, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_only_infeasible_programs_are_proven_so(seed):
    instance, objective, rng = random_program(seed)
    for _ in range(50):
        assert instance.safe_bound(0 * objective, rng.standard_normal(len(instance.lower))) >= 0
    reach = np.abs(instance.matrix[2].toarray()[0]) @ np.maximum(-instance.low, instance.high)
    lower, upper = instance.lower.copy(), instance.upper.copy()
    lower[2] = upper[2] = 1.01 * reach + 0.01
    empty = Instance(instance.matrix, lower, upper, instance.low, instance.high)
    assert optimum(empty, objective).status == 2
    assert Relaxation().solve(empty, objective, None, 10.0)[0] == -math.inf


@pytest.mark.parametrize("seed", range(20))
def test_rounding_errors_are_counted(seed):
    """Against the same formula in fractions, with multipliers that nearly cancel at 1e12."""
    instance, objective, rng = random_program(seed)
    instance = replace(instance, upper=np.where(np.isinf(instance.upper), 99.0, instance.upper))
    instance = replace(instance, lower=np.where(np.isinf(instance.lower), -99.0, instance.lower))
    v = 1e12 * rng.standard_normal(len(instance.lower))
    exact = sum(
        max(Fraction(a) * Fraction(low), Fraction(a) * Fraction(high))
        for a, low, high in zip(v, instance.lower, instance.upper, strict=True)
    )
    columns = zip(objective, instance.matrix.toarray().T, instance.low, instance.high, strict=True)
    for c, column, low, high in columns:
        rest = Fraction(c) - sum(Fraction(a) * Fraction(m) for a, m in zip(v, column, strict=True))
        exact += max(rest * Fraction(low), rest * Fraction(high))
    bound = instance.safe_bound(objective, v)
    assert exact <= Fraction(bound) <= exact * (1 + Fraction(1e-12))


def node(network, tangents_of, start, rng):
    """A program at a node whose decided phases are those of a random point, and the vector of that
    point and of its tangent."""
    links = chain(network)
    tangents = tangents_of(links)
    point = np.append(rng.uniform(-1, 1, network.input_size), 1.0)
    pattern = pattern_at(links, point)
    signs = np.full(len(tangents.weights[-1]), FREE)
    phases = [np.where(rng.random(len(p)) < 0.5, p, FREE) for p in pattern]
    phases = [
        np.where(switch.linear, 0, p) for switch, p in zip(links.switches, phases, strict=True)
    ]
    box = np.append(-np.ones(network.input_size), 1.0), np.ones(network.input_size + 1)
    at_points = point_ranges(links, box, phases)
    at_tangents = signed(tangent_ranges(tangents, start, phases), signs)
    program = PhaseProgram(links, tangents)
    instance = program.instance(box, start, [*phases, signs], at_points, at_tangents)
    return program, instance, assignment(program, links, tangents, start, point, pattern), pattern


def assignment(program, links, tangents, start, point, pattern):
    x, columns = np.zeros(program.columns.size), program.columns
    y = x[columns["point", "y", -1]] = point[:-1]
    x[columns["time"]] = 1.0
    for k, switch in enumerate(links.switches):
        z = x[columns["point", "z", k]] = links.weights[k] @ y + links.offsets[k]
        y = x[columns["point", "y", k]] = switch.slopes(pattern[k]) * z
        x[columns["phase", k]] = pattern[k]
    y = x[columns["tangent", "y", -1]] = np.eye(tangents.starts)[start]
    for i, k in enumerate(tangents.order):
        z = x[columns["tangent", "z", i]] = tangents.weights[i] @ y
        y = x[columns["tangent", "y", i]] = links.switches[k].slopes(pattern[k]) * z
    last = len(links.switches)
    z = x[columns["tangent", "z", last]] = tangents.weights[-1] @ y
    x[columns["tangent", "y", last]] = np.abs(z)
    x[columns["phase", last]] = z >= 0
    return x


@pytest.mark.parametrize("tangents_of", [rows_of_jacobian, columns_of_jacobian])
@pytest.mark.parametrize("seed", range(10))
def test_the_program_holds_every_point_and_its_tangents(tangents_of, seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, (3, 4, 3, 2))
    program, instance, x, pattern = node(network, tangents_of, seed % 2, rng)
    rows = instance.matrix @ x
    slack = 1e-12 * (1 + np.abs(x).max())
    assert (rows >= instance.lower - slack).all() and (rows <= instance.upper + slack).all()
    assert (x >= instance.low - slack).all() and (x <= instance.high + slack).all()
    last = program.columns["tangent", "y", 2]
    _, jacobian = cell(program.chain, pattern)
    line = jacobian[seed % 2] if tangents_of is rows_of_jacobian else jacobian[:, seed % 2]
    assert x[last].sum() == pytest.approx(np.abs(line).sum())
    objective = np.zeros(len(x))
    objective[last] = 1.0
    bound = Relaxation().solve(instance, objective, None, 10.0)[0]
    assert bound >= objective @ x * (1 - 1e-12)
