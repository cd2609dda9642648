"""From a graph of values to a `Network`, affine maps and stages in turn.

A network's stage takes in all that the graph holds at that moment: what goes through an activation
there, and what is needed only later, carried on by neurons of slopes [1, 1]. Activations and pools
take turns, as many as are ready at a time. A pool that nothing passes by is kept whole; others are
trees of maxima, beside which the rest is carried as maxima of one entry with itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import LipboundsError
from ..linear.blocks import Blocks, Sum
from ..linear.operators import Dense, Identity, Operator, Sparse, compose
from ..networks.activations import identity
from ..networks.network import Affine, Network
from ..networks.stages import BetweenStage, SlopeStage, Stage
from .values import Combination, Input, Staged, Value

DENSE_ENTRIES = 2**22  # of a matrix, up to which blocks with dense ones among them become one


def lowered(output: Value) -> Network:
    """The network that computes `output` of the one `Input` that it depends on. Raises
    LipboundsError where it depends on none."""
    values = _in_order([output], _before)
    given = next((value for value in values if isinstance(value, Input)), None)
    if given is None:
        raise LipboundsError("the output does not depend on the input")
    schedule = _Schedule(values, given)
    affines, stages = [], []
    while schedule.waiting:
        targets, stage, state = schedule.step()
        affines.append(schedule.state.affine(targets))
        stages.append(stage)
        schedule.state = state
    affines.append(schedule.state.affine([output]))
    return Network(tuple(affines), tuple(stages), given.shape, _roundings(values))


def _before(value: Value) -> list[Value]:
    """What a value is computed from."""
    if isinstance(value, Combination):
        return [one for one, _ in value.terms]
    return [value.of] if isinstance(value, Staged) else []


def _in_order(values: Sequence[Value], before) -> list[Value]:
    """The values and all that they depend on, each after what it depends on itself."""
    found, stack = {}, list(values)
    while stack:
        missing = [one for one in before(stack[-1]) if one not in found]
        if missing:
            stack += missing
        else:
            found[stack.pop()] = None
    return list(found)


def _roundings(values: Sequence[Value]) -> int:
    """Of the last value, on the path with the most."""
    most = {}
    for value in values:
        own = value.roundings if isinstance(value, Combination) else 0
        most[value] = own + max((most[one] for one in _before(value)), default=0)
    return most[values[-1]]


class _Schedule:
    """Which values are computed in front of which stage. `ahead`: the stages that each staged value
    has still to go through, of which there are several where a pool is a tree of maxima."""

    def __init__(self, values: Sequence[Value], given: Input):
        self.values, self.state = values, _State([given], [given.size])
        self.ahead = {value: [value.stage] for value in values if isinstance(value, Staged)}
        self.after = {value: [] for value in values}
        for value in values:
            for one in _before(value):
                self.after[one].append(value)

    @property
    def waiting(self) -> bool:
        return any(self.ahead.values())

    def step(self) -> tuple[list[Value], Stage, "_State"]:
        """The values in front of the next stage, the stage, and the values behind it."""
        known = self._known()
        ready = [
            value
            for value, stages in self.ahead.items()
            if stages and (value in self.state.places or value.of in known)
        ]
        slopes = [value for value in ready if self.ahead[value][0].entrywise]
        chosen = slopes or ready
        later = self._later(known, chosen)
        if not slopes and (later or len(chosen) > 1):
            for value in chosen:
                self.ahead[value][:1] = self.ahead[value][0].tree()
        targets = [self._front(value) for value in chosen] + later
        stages = [self.ahead[value].pop(0) for value in chosen]
        join = _side_by_side if slopes else _maxima_side_by_side
        sizes = [self.state.size(value) for value in later]
        stage = stages[0] if len(targets) == 1 else join(stages, sum(sizes))
        return targets, stage, _State([*chosen, *later], [*(s.shape[0] for s in stages), *sizes])

    def _front(self, value: Staged) -> Value:
        """What the next stage of a staged value takes: itself, once it is under way."""
        return value if value in self.state.places else value.of

    def _known(self) -> dict[Value, None]:
        """What follows by affine maps from the stages passed, if only from earlier states."""
        known = {}
        for value in self.values:
            staged = isinstance(value, Staged)
            if not self.ahead[value] if staged else all(one in known for one in _before(value)):
                known[value] = None
        return known

    def _later(self, known: dict[Value, None], chosen: Sequence[Staged]) -> list[Value]:
        """What stages still to come need. A value that follows from the stages passed, and that a
        later one needs, was in the state as long as something that it follows from was not."""
        begun = {*chosen, *self.state.places}
        under_way = [v for v in self.state.places if self.ahead.get(v) and v not in chosen]
        open_ = {v for v in self.values if v not in known and v not in begun}
        return under_way + [
            value for value in known if any(one in open_ for one in self.after[value])
        ]


def _side_by_side(stages: Sequence[SlopeStage], carried: int) -> SlopeStage:
    parts, start = [], 0
    for stage in stages:
        parts += [(function, _shifted(index, start, stage)) for function, index in stage.parts]
        start += stage.shape[0]
    if carried:
        parts.append((identity(), slice(start, start + carried)))
    return SlopeStage(parts, start + carried, stages[0].alpha.device)


def _shifted(index: Tensor | slice, start: int, stage: SlopeStage) -> Tensor | slice:
    if isinstance(index, slice):
        first, end, _ = index.indices(stage.shape[0])
        return slice(first + start, end + start)
    return index + start


def _maxima_side_by_side(stages: Sequence[BetweenStage], carried: int) -> BetweenStage:
    firsts, seconds, start = [], [], 0
    for stage in stages:
        firsts.append(stage.first + start)
        seconds.append(stage.second + start)
        start += stage.shape[1]
    own = torch.arange(start, start + carried, device=stages[0].first.device)
    first, second = torch.cat([*firsts, own]), torch.cat([*seconds, own])
    return BetweenStage(first, second, start + carried)


class _State:
    """Values side by side, as a stage gives them; of pools under way, what there is."""

    def __init__(self, values: Sequence[Value], sizes: Sequence[int]):
        self.sizes, self.places = list(sizes), {value: k for k, value in enumerate(values)}

    def size(self, value: Value) -> int:
        return self.sizes[self.places[value]] if value in self.places else value.size

    def affine(self, targets: Sequence[Value]) -> Affine:
        """The map from these values to others that follow from them without a stage."""
        known = {}
        for value in _in_order(targets, lambda v: [] if v in self.places else _before(v)):
            known[value] = self._expressed(value, known)
        parts = {(i, j): one for i, t in enumerate(targets) for j, one in known[t][0].items()}
        heights = [self.size(target) for target in targets]
        offset = torch.cat([known[target][1] for target in targets])
        return Affine(_condensed(Blocks(parts, heights, self.sizes, offset.device)), offset)

    def _expressed(self, value: Value, known) -> tuple[dict[int, Operator], Tensor]:
        """The maps of the state's values that add up to `value`, and an offset."""
        if value in self.places:
            size, device = self.size(value), value.device
            zero = torch.zeros(size, dtype=torch.float64, device=device)
            return {self.places[value]: Identity(size, device)}, zero
        maps, offset = {}, value.offset
        for one, operator in value.terms:
            before, constant = known[one]
            offset = operator.apply(constant) + offset
            for j, inner in before.items():
                through = compose(operator, inner)
                maps[j] = Sum([maps[j], through]) if j in maps else through
        return maps, offset


def _condensed(operator: Blocks) -> Operator:
    """One map where there is one block, or a dense one among few entries, none of them a product
    or a sum: of those the roundings would no longer be counted."""
    if len(operator.heights) == len(operator.widths) == 1:
        if operator.parts:
            return operator.parts[0, 0]
        nothing = torch.zeros(0, dtype=torch.long, device=operator.device)
        return Sparse(nothing, nothing, nothing.double(), operator.shape)
    small = operator.shape[0] * operator.shape[1] <= DENSE_ENTRIES
    dense = any(isinstance(part, Dense) for part in operator.parts.values())
    return operator.materialized() if small and dense and operator.plain else operator
