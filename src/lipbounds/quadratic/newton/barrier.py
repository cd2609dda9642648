"""Newton's method on the barrier function of K_5's programs, batched over the programs.

    phi_t(theta) = t cost . theta - log det Q(theta)

is convex, Q > 0 implies theta > 0, and its minimiser is within N / t of the least cost . theta.
Where each multiplier has the term (l^T v)(h^T v) in Q, and Z = Q^{-1}, the Hessian is

    ((l_i^T Z l_j)(h_i^T Z h_j) + (l_i^T Z h_j)(h_i^T Z l_j)) / 2 :

one inverse and elementwise products. Two variables are minimised over exactly at each evaluation,
which halves the steps: the last block's multiplier, and the scale a in (mu, lambda, nu) ->
(a mu, a lambda, nu / a). Proofs are in docs/k5.md, section 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .forms import Forms

GROWTH, LEAST_GROWTH = 5.0, 1.5  # of t where it is raised, at most and at least
QUICKER, SLOWER = 2.0, 0.8  # the growth, times that with each raise and with each step
CENTRED = 2.0  # squared Newton decrement below which t grows
FIRST_GAP = 1.0  # relative, at the start
INSIDE = 0.7  # of the way to the edge of the cone, at most (docs/k5.md)
INSIDE_RAISED = 0.9  # the same where t was raised, for the share 1 / growth of the step
ARMIJO = 0.1  # of the decrease that the slope promises is to be had
SHORTEST_STEP = 2.0**-14  # of Newton's; shorter ones are rounding
GAIN = 0.05  # of phi, for which a step is repeated
PATIENCE = 30  # steps without gain
SURE = 1e-3  # relative distance to the estimate of the optimum, within which one is solved
CENTRING = 1.0  # of phi, which a step on the way to the central path gains
NEAR = 1e-4  # relative
NEARBY = 50.0  # squared Newton decrement beyond which the estimate from below is 0 anyway
SHARP = 1e-9  # relative: what the last block's multiplier exceeds its least value by at the end
SETTLING = 30  # steps for the last block's multiplier, at most
SETTLED = 1e-4  # change at the end, as a share of what exceeds its least value
RIDGE = {torch.float64: 1e-13, torch.float32: 1e-6}  # of the Hessian's diagonal
SINGLE_SIDE = 500  # rows of Q from which Newton's step is computed in single precision


@dataclass(frozen=True)
class Point:
    """Multipliers theta (b, N), settled for t (b,); phi, and the bound sqrt(mu nu) they give with
    the last block's least multiplier; positive: whether they are feasible at all; raised: whether t
    was, just before; ahead: the share of the Newton step to be tried first; growth: what t is to be
    multiplied by when it is raised next."""

    theta: Tensor
    t: Tensor
    phi: Tensor
    value: Tensor
    positive: Tensor
    raised: Tensor
    ahead: Tensor
    growth: Tensor

    def where(self, chosen: Tensor, other: "Point") -> "Point":
        """This point where `chosen` (b,), else the other."""
        pairs = [(getattr(self, f), getattr(other, f)) for f in self.__dataclass_fields__]
        return Point(*(torch.where(_like(chosen, a), a, b) for a, b in pairs))

    def __getitem__(self, chosen: Tensor | int) -> "Point":
        return Point(*(getattr(self, f)[chosen] for f in self.__dataclass_fields__))

    def put(self, indices: Tensor, other: "Point") -> None:
        """The other's programs in place of those with the indices."""
        for field in self.__dataclass_fields__:
            getattr(self, field)[indices] = getattr(other, field)

    @classmethod
    def stacked(cls, points: "Sequence[Point]") -> "Point":
        """One batch of single programs."""
        return cls(
            *(torch.stack([getattr(p, f) for p in points]) for f in cls.__dataclass_fields__)
        )


def _like(mask: Tensor, tensor: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (tensor.ndim - 1))


class Barrier:
    """phi_t of a batch of forms, and one Newton step. Multipliers that are not free should be
    infinite: their logarithms are added to phi, or the scale would run away with them."""

    def __init__(self, forms: Forms):
        self.forms, self.cost = forms, forms.cost
        self.end = forms.end  # the block settled exactly
        self.rough = forms if forms.side < SINGLE_SIDE else forms.to(torch.float32)  # of the step
        self.power = forms.side - 2 * forms.sizes[-1] - (~forms.free).sum(-1)

    def first(self, theta: Tensor, gap: float | Tensor = FIRST_GAP) -> Point:
        """The start, t such that `gap` is the share of its value that the optimum may be less."""
        value = self.evaluate(theta, torch.ones_like(theta[:, 0])).value
        return self.evaluate(theta, self.forms.side / (2 * gap * value))

    def least(self, starts: list[tuple[Tensor, float]]) -> Point:
        """The start of each program that has the least value, of (theta, gap); the first of them
        where none is inside the cone."""
        thetas = torch.stack([theta for theta, _ in starts])
        points = [self.evaluate(theta, torch.ones_like(theta[:, 0])) for theta, _ in starts]
        values = torch.stack([torch.where(p.positive, p.value, torch.inf) for p in points])
        best = values.nan_to_num(torch.inf).argmin(0)
        gaps = thetas.new_tensor([gap for _, gap in starts])[best]
        return self.first(thetas[best, torch.arange(len(best), device=best.device)], gaps)

    def evaluate(self, theta: Tensor, t: Tensor) -> Point:
        """phi_t, least over nu and the scale."""
        positive, log_determinant, schur = self.forms.eliminated(theta)
        spectrum = self.forms.spectrum(schur)
        rest = theta.clone()
        rest[:, self.end] = 0.0
        weight = rest @ self.cost
        settle = _input_settled if self.forms.backward else _outputs_settled
        a, last, extra = settle(weight, spectrum, self.power, t)
        settled = self.forms.scaled(theta, a)
        settled[:, self.end] = last.unsqueeze(-1)
        phi = t * (settled @ self.cost) - self.power * a.log() - extra
        phi = phi - log_determinant + torch.where(self.forms.free, 0.0, theta.log()).sum(-1)
        value = (weight * spectrum[..., -1]).sqrt()
        positive &= torch.isfinite(phi)
        none = torch.zeros_like(positive)
        whole = torch.ones_like(t)
        return Point(settled, t, phi, value, positive, none, whole, GROWTH * whole)

    def positive(self, theta: Tensor) -> Tensor:
        """Whether Q(theta) > 0, which implies theta > 0, (b,)."""
        positive, _, schur = self.forms.eliminated(theta)
        return positive & self.forms.exceeds(theta[:, self.end], schur)

    def inside(self, theta: Tensor) -> Tensor:
        """Whether Q(theta) > 0 but for the last block, whose multiplier is settled anyway, (b,)."""
        return self.forms.eliminated(theta)[0]

    def newton(self, point: Point) -> tuple[Tensor, Tensor, Tensor]:
        """The Newton step relative to theta (b, N), its squared decrement (b,), and an estimate of
        the optimum from below (b,), which exact arithmetic would prove where the mirrored point is
        feasible (docs/k5.md, proposition 17); NaN where rounding leaves no step.
        """
        theta, forms = point.theta, self.forms
        positive, whole = forms.inverse(theta)
        step, decrement, moments = self._solved(point, whole, self.rough)
        if bool(decrement.isnan().any()) and self.rough is not forms:
            self.rough = forms
            step, decrement, moments = self._solved(point, whole, forms)
        usable = positive & ~decrement.isnan()
        step = torch.where(usable.unsqueeze(-1), step, 0.0)
        decrement = torch.where(usable, decrement, 0.0)
        mirrored = decrement <= 1  # which implies it
        unsure = ~mirrored & (decrement < NEARBY)
        if bool(unsure.any()):
            mirrored |= unsure & self.positive(theta * (1 - step))
        gap = forms.side - (step * moments).sum(-1)
        likely = forms.side + (forms.side * decrement).sqrt()
        lower = (theta @ self.cost - torch.where(mirrored, gap, likely) / point.t) / 2
        told = (mirrored | (decrement < CENTRED)) & (lower > NEAR * point.value)  # else rounding
        lower = torch.where(told, lower, 0.0)
        return step, decrement, torch.where(usable, lower, torch.nan)

    def _solved(self, point: Point, whole: Tensor, forms: Forms) -> tuple[Tensor, Tensor, Tensor]:
        """The Newton step, its squared decrement, NaN where rounding leaves no step, and
        theta_j l_j^T Z h_j, in the precision of `forms`; Z is `whole`."""
        moments, hessian = forms.curvature(whole)
        moments = point.theta * moments
        slope = forms.free * (point.t.unsqueeze(-1) * self.cost * point.theta - moments)
        weight = (forms.free * point.theta).to(hessian.dtype)
        hessian.mul_(weight.unsqueeze(-1)).mul_(weight.unsqueeze(-2))
        hessian.diagonal(dim1=-2, dim2=-1).add_(~forms.free)
        slope, hessian = forms.tie(slope), forms.tie(forms.tie(hessian).mT)
        hessian.diagonal(dim1=-2, dim2=-1).mul_(1 + RIDGE[hessian.dtype])
        factor, info = torch.linalg.cholesky_ex(hessian)
        step = -torch.cholesky_solve(slope.to(factor.dtype).unsqueeze(-1), factor).squeeze(-1)
        step = step.to(slope.dtype)
        decrement = -(slope * step).sum(-1)
        sound = (info == 0) & torch.isfinite(decrement) & (decrement >= 0)
        return forms.untie(step), torch.where(sound, decrement, torch.nan), moments

    def advance(self, point: Point) -> tuple[Point, Tensor, Tensor]:
        """One step with a line search, t raised where it is CENTRED, the less the more steps that
        took; the lower estimate; and where rounding lets nothing move any more (b,)."""
        step, decrement, lower = self.newton(point)
        best, moved = self._along(point, step, decrement)
        if not bool(moved.all()) and self.rough is not self.forms:
            self.rough = self.forms  # single precision leads nowhere from here
            return self.advance(point)
        centred = (decrement < CENTRED) | ~moved
        growth = point.growth
        best = replace(best, growth=(SLOWER * growth).clamp(min=LEAST_GROWTH))
        if bool(centred.any()):
            later = self.evaluate(best.theta, torch.where(centred, growth * best.t, best.t))
            next_growth = (QUICKER * growth).clamp(max=GROWTH)
            later = replace(later, raised=centred, ahead=1 / growth, growth=next_growth)
            best = later.where(centred & later.positive, best)
        return best, lower.nan_to_num(0.0), ~moved | lower.isnan()

    def _along(self, point: Point, step: Tensor, decrement: Tensor) -> tuple[Point, Tensor]:
        """The point at a share of the step that lowers phi enough, and whether there is one: the
        first good one of halves, from `ahead`; then the better of half as much and a quarter or
        three quarters as much again. Where t was raised, the share that leads along the central
        path is known (docs/k5.md)."""
        ray = _Ray(self, point, step, decrement)
        best, moved = point, torch.zeros_like(point.positive)
        ahead = point.ahead
        while bool((~moved & (ahead > SHORTEST_STEP)).any()):
            tried, good = ray.tried(ahead)
            good &= ~moved
            best, moved = tried.where(good, best), moved | good
            ahead = torch.where(moved, ahead, ahead / 2)
        short, more = moved & (ahead < 1) & ~point.raised, 1.5 * ahead
        for _ in range(2):
            if not bool(short.any()):
                break
            tried, good = ray.tried(more)
            good &= short & (tried.phi < best.phi)
            best = tried.where(good, best)
            more = torch.where(good, 1.75 * ahead, 1.25 * ahead)
        best = self._repeated(point, best, moved & (ahead == 1))
        following = torch.where(point.raised, 1.0, (2 * ahead).clamp(max=1.0))
        return replace(best, ahead=following), moved

    def _repeated(self, point: Point, best: Point, moved: Tensor) -> Point:
        """The step in logarithms taken again, twice, four times more while phi falls: multipliers
        that must change by orders of magnitude do so by many alike steps."""
        ways, again = (best.theta / point.theta).log(), 1.0
        while bool(moved.any()):
            tried = self.evaluate(best.theta * (again * ways).exp(), best.t)
            moved = moved & tried.positive & (tried.phi < best.phi - GAIN)
            if bool(moved.any()):
                moved &= self.inside(best.theta * (again / INSIDE * ways).exp())
            best, again = tried.where(moved, best), 2 * again
        return best


class _Ray:
    """The points theta (1 + a step), a > 0: feasible at `within` (b,), and not from `beyond` on, as
    far as is known."""

    def __init__(self, barrier: Barrier, point: Point, step: Tensor, decrement: Tensor):
        self.barrier, self.point, self.step = barrier, point, step
        self.decrement, self.within = decrement, torch.zeros_like(decrement)
        self.beyond = torch.full_like(decrement, torch.inf)

    def tried(self, ahead: Tensor) -> tuple[Point, Tensor]:
        """The point `ahead` of the step away, and whether the cone's edge is not so near there that
        later steps are short, and phi low enough."""
        further = ahead / torch.where(self.point.raised, INSIDE_RAISED, INSIDE)
        unknown = (further > self.within) & (further < self.beyond)
        if bool(unknown.any()):
            inside = self.barrier.inside(self._theta(further))
            self.within = torch.where(inside, torch.maximum(self.within, further), self.within)
            self.beyond = torch.where(inside, self.beyond, torch.minimum(self.beyond, further))
        good = further <= self.within
        if not bool(good.any()):
            return self.point, good
        tried = self.barrier.evaluate(self._theta(ahead), self.point.t)
        enough = self.point.phi - ARMIJO * ahead * self.decrement + 1e-10 * self.point.phi.abs()
        return tried, good & tried.positive & (tried.phi <= enough)

    def _theta(self, ahead: Tensor) -> Tensor:
        return self.point.theta * (1 + ahead.unsqueeze(-1) * self.step)


# Multipliers (a mu, a lambda, nu / a) are those of a congruent form, whose log det differs by
# `power` log a. Both functions return a, the last block's multiplier, and log det of what is left
# of that block but for the power of a.


def _outputs_settled(
    weight: Tensor, spectrum: Tensor, power: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """a and nu = gamma / a that minimise t (a weight + gamma / a) - power log a
    - sum log (gamma - g), g the spectrum (b, d): in closed form for d = 1, else by Newton's method
    on the derivative in gamma, a being the best for each gamma."""
    top, d = spectrum[..., -1], spectrum.shape[-1]
    if d == 1:
        a = _scale(weight, top, power + 1, t)
        return a, top / a + 1 / t, (a / t).log()
    mean = spectrum.mean(-1)
    alone = top + _scale(weight, top, power + 1, t) / t  # both left of the minimum
    alike = mean + d * _scale(weight, mean, power + d, t) / t
    gamma = least = torch.maximum(alone, alike)
    for _ in range(SETTLING):
        a = _scale(weight, gamma, power, t)
        near = (gamma.unsqueeze(-1) - spectrum).reciprocal()
        rise = near.sum(-1) - t / a
        slope = near.square().sum(-1) - t * t / (a * a * (2 * t * weight * a - power))
        before, gamma = gamma, torch.maximum(gamma + rise / slope, least)
        if bool((gamma - before <= SETTLED * (gamma - top)).all()):
            break
    a = _scale(weight, gamma, power, t)
    return a, gamma / a, (gamma.unsqueeze(-1) - spectrum).log().sum(-1)


def _input_settled(
    weight: Tensor, spectrum: Tensor, power: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """a and mu = a gamma that minimise t (a gamma + weight / a) - power log a - log (gamma - g), g
    the one number of the spectrum."""
    top = spectrum[..., -1]
    a = _scale(top, weight, power - 1, t)
    return a, a * top + 1 / t, -(a * t).log()


def _scale(direct: Tensor, inverse: Tensor, power: Tensor, t: Tensor) -> Tensor:
    """a that minimises t (a direct + inverse / a) - power log a."""
    root = (power**2 + 4 * t * t * direct * inverse).sqrt()
    return (power + root) / (2 * t * direct)


@dataclass(frozen=True)
class Path:
    """What `minimised` has found, the least `value` (b,), and multipliers (b, N): of that value; of
    the last point near the central path at least NEAR from the optimum, well inside the cone; and
    of the first such point, from where other pieces of the network may start. `last`: from where
    programs may go on; `solved` (b,): those that need not; `stalled` (b,): those of them that gain
    no more, further than SURE from the estimate of the optimum; steps taken (b,)."""

    value: Tensor
    least: Tensor
    inside: Tensor
    first: Tensor
    last: Point
    solved: Tensor
    stalled: Tensor
    steps: Tensor


def minimised(
    forms: Forms,
    start: Point,
    tolerance: float,
    finished: Callable[[Tensor, Tensor, Tensor], Tensor],
    steps: int,
    report: Callable[[Path], None] | None = None,
) -> Path:
    """The least values met from a strictly feasible start.

    A program is solved where its value, or the central path, is within a share `tolerance` of the
    optimum, or where rounding lets nothing move, or after PATIENCE steps that neither lower its
    value by that share, nor phi by CENTRING, nor raise t. It ends then, or after `steps` steps, or
    where finished(indices, values, lower) (b',), called after each step for the programs still
    running, says so; lower estimates their optima, and is no proof. `report` is called where t is
    raised.
    """
    indices, barrier = torch.arange(len(start.t), device=start.t.device), Barrier(forms)
    copies = (start.theta.clone() for _ in range(3))
    none = torch.zeros_like(indices)
    path = Path(start.value.clone(), *copies, start[indices], none.bool(), none.bool(), none)
    point = start
    least, lower, idle = (x * point.value for x in (1.0, 0.0, 0.0))
    for _ in range(steps):
        if not len(indices):
            break
        before = point
        point, estimate, stuck = barrier.advance(before)
        lower = torch.maximum(lower, estimate)
        better, raised = point.value < least, point.t > before.t
        nearer = before.phi - point.phi > CENTRING  # to the central path: as long as that goes on
        moved = (point.value < (1 - tolerance) * least) | raised | nearer
        idle = torch.where(moved, 0.0, idle + 1)
        least = torch.where(better, point.value, least)
        path.value[indices], path.least[indices[better]] = least, point.theta[better]
        deep = raised & (forms.side > 2 * NEAR * before.t * least)
        path.inside[indices[deep]] = point.theta[deep]
        first = raised & (before.t == start.t[indices])
        path.first[indices[first]] = point.theta[first]
        path.last.put(indices, point)
        path.steps[indices] += 1
        solved = (lower > 0) & (least - lower <= tolerance * least)
        solved |= raised & (barrier.forms.side <= 2 * tolerance * before.t * least)
        still = stuck | (idle > PATIENCE)
        path.stalled[indices] = still & ~solved & (least - lower > SURE * least)
        solved |= still
        path.solved[indices] = solved
        if report is not None and bool(raised.any()):
            report(path)
        kept = ~(solved | finished(indices, least, lower))
        if not bool(kept.all()):
            indices, least, lower = (x[kept] for x in (indices, least, lower))
            idle, point = idle[kept], point[kept]
            barrier = Barrier(barrier.forms.select(kept))
    return path


def sharpened(forms: Forms, theta: Tensor) -> Tensor:
    """With the last block's multiplier hardly above its least value."""
    barrier = Barrier(forms)
    ones = torch.ones(len(theta), dtype=theta.dtype, device=theta.device)
    value = barrier.evaluate(theta, ones).value
    return barrier.evaluate(theta, 1 / (SHARP * value)).theta
