"""The stages of a network as a chain of links between trunk blocks, for the form Q of
`lipbounds.quadratic.form`.

Treated stage by stage, a max-pooled convolution would cost the cube of its width. But stages that
identities join form a forest: each neuron feeds one neuron of the next stage, and the inner
variables of one pooling window couple only to each other, to the window's one outer neuron y, and
to the trunk block before through the window's preactivations, its leaves z. A link holds all
windows between two trunk blocks in one batch; a stage without such structure is a link of its own,
whose windows are its neurons.

Every bracket of Q is a product l1 . l2 of two linear forms in its window's local variables
(inner, y, z): y - alpha z and y - beta z for a slope in [alpha, beta], y - p and y - q for the
maximum of p and q. The leaves z = W x of one window touch few entries of the block before; windows
of equal support are batched as a patch.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...linear.operators import Identity, Operator, dense
from ...networks.network import Network
from ...networks.stages import Ends

DENSE_SHARE = 0.5  # of nonzero weights, above which patches spare nothing


@dataclass(frozen=True)
class Patches:
    """The rows of W that the windows of a link take, c patches of r windows with m leaves each.

    weight: (c, r m, n) = W[rows, columns]; rows (c, r m); columns (c, n), distinct in a patch;
    size: the width of the trunk block before.
    """

    weight: Tensor
    rows: Tensor
    columns: Tensor
    size: int

    def apply(self, x: Tensor) -> Tensor:
        """z of every window, (size, b) -> (c, r m, b)."""
        return self.weight @ x[self.columns]

    def adjoint(self, z: Tensor) -> Tensor:
        """(c, r m, b) -> (size, b)."""
        out = z.new_zeros(self.size, z.shape[-1])
        return out.index_add_(0, self.columns.flatten(), (self.weight.mT @ z).flatten(0, 1))

    def squares(self, x: Tensor) -> Tensor:
        """The blocks of a matrix X (size, size) that the patches see, (c, n, n)."""
        return x[self.columns.unsqueeze(2), self.columns.unsqueeze(1)]

    def add_squares(self, x: Tensor, values: Tensor) -> None:
        """The adjoint of `squares`: adds `values` (c, n, n) to X in place."""
        index = self.columns.unsqueeze(2) * self.size + self.columns.unsqueeze(1)
        x.view(-1).index_add_(0, index.flatten(), values.flatten())


@dataclass(frozen=True)
class Link:
    """The windows between two trunk blocks, made of the stages first, ..., last (counted from 0).

    neurons: (w, b), each bracket's place in the concatenated multipliers of those stages.
    one, two: (w, b, inner + 1 + leaves), l1 and l2 of each bracket.
    live: (w, b), False where the neuron is left out of the form: then l1 = l2 = y, decoupled.
    free: (w, b), False also where the neuron has an exact equation: its multiplier has no optimum.
    outer: (w,), the window's neuron of the stage `last`, its place in the next trunk block.
    """

    first: int
    last: int
    neurons: Tensor
    one: Tensor
    two: Tensor
    live: Tensor
    free: Tensor
    outer: Tensor
    inner: int
    patches: Patches
    columns: Tensor  # (size,), 1.0 for the entries of the block before that are in the form

    def local(self, stages: list[Tensor]) -> Tensor:
        """The brackets' multipliers, (w, b); 1 for neurons left out."""
        together = torch.cat(stages[self.first : self.last + 1])
        return torch.where(self.live, together[self.neurons], 1.0)

    def spread(self, values: Tensor, like: list[Tensor]) -> list[Tensor]:
        """The inverse of `local`: per stage of the link, 0 for neurons left out."""
        own = like[self.first : self.last + 1]
        out = torch.zeros_like(torch.cat(own))
        out[self.neurons[self.live]] = values[self.live]
        return list(out.split([len(m) for m in own]))

    def majorant(self, operator: Operator) -> "Link":
        """The link of |l1|, |l2| and of a majorant of |W|, W = `operator`."""
        rows, columns = self.patches.rows.unsqueeze(2), self.patches.columns.unsqueeze(1)
        matrix = dense(operator.majorant()) * self.columns
        patches = replace(self.patches, weight=matrix[rows, columns])
        return replace(self, one=self.one.abs(), two=self.two.abs(), patches=patches)


def links(network: Network) -> list[Link]:
    """The chain of links of a single network without implicit pools, the first stage's first."""
    live, chain, last = live_entries(network), [], network.depth - 1
    while last >= 0:
        chain.append(_link(network, last, live))
        last = chain[-1].first - 1
    return chain[::-1]


def live_entries(network: Network) -> list[Tensor]:
    """Of x, y_1, ..., y_L and the output those that move with x and that some output needs."""

    def indicator(x: Tensor) -> Tensor:
        return (x > 0).to(torch.float64)

    moving = [torch.ones(network.input_size, dtype=torch.float64, device=network.device)]
    for k, affine in enumerate(network.affines):
        z = indicator(affine.operator.majorant().apply(moving[-1]))
        moving.append(indicator(network.stages[k].majorant(z)) if k < network.depth else z)
    need, live = moving[-1], [moving[-1] > 0]
    for k in range(network.depth, -1, -1):
        need = indicator(network.affines[k].operator.majorant().adjoint(need)) * moving[k]
        live.append(need > 0)
        if k:
            pair = (network.stages[k - 1].center, network.stages[k - 1].radius)
            need = sum(o.majorant().adjoint(need) for o in pair)
    return live[::-1]


def _link(network: Network, last: int, live: list[Tensor]) -> Link:
    """The link whose outer stage is `last`, reaching down as far as the forest does."""
    size = network.stages[last].shape[0]
    nodes, stage, levels = torch.arange(size, device=network.device).unsqueeze(1), last, []
    while True:
        ends = network.stages[stage].ends()
        children, low, high = _children(ends, nodes)
        levels.append((stage, ends, nodes, low, high))
        operator = network.affines[stage].operator
        alone = children.unique().numel() == children.numel()
        if stage == 0 or not alone or not isinstance(operator, Identity):
            return _assembled(network, levels, children, live)
        nodes, stage = children, stage - 1


def _children(ends: Ends, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of z (w, c') that neurons `nodes` (w, c) of a stage take, and the columns (c,) of
    that table where each finds its two."""
    at = torch.arange(nodes.shape[1], device=nodes.device)
    first, second = ends.first[nodes], ends.second[nodes]
    copies = (first == second).all(0)  # activations, and pairs left over by a tree
    high = torch.where(copies, at, len(at) + (~copies).cumsum(0) - 1)
    return torch.cat([first, second[:, ~copies]], 1), at, high


def _assembled(network: Network, levels: list, leaves: Tensor, live: list[Tensor]) -> Link:
    first, last = levels[-1][0], levels[0][0]
    counts = [nodes.shape[1] for _, _, nodes, _, _ in levels]
    inner, width = sum(counts[1:]), sum(counts) + leaves.shape[1]
    windows, brackets = len(leaves), sum(counts)
    one = torch.zeros(windows, brackets, width, dtype=torch.float64, device=leaves.device)
    two, masks, starts, place = torch.zeros_like(one), [], _offsets(network, first, last), 0
    for level, (stage, ends, nodes, low, high) in enumerate(levels):
        # Local variables: inner levels from the top down, then y, then the leaves.
        own = inner if level == 0 else sum(counts[1:level])
        below = sum(counts[1 : level + 1]) if level + 1 < len(levels) else inner + 1
        # l1 = y - alpha p, l2 = y - beta q; moving: whether R is not 0.
        alpha, beta, moving = ends.low[nodes], ends.high[nodes], ~ends.met[nodes]
        alive = live[stage + 1][nodes]
        if level + 1 < len(levels):
            child = live[stage][levels[level + 1][2]]
            alpha, beta = alpha * child[:, low], beta * child[:, high]
        at = torch.arange(nodes.shape[1], device=nodes.device)
        one[:, place + at, own + at] = 1.0
        two[:, place + at, own + at] = 1.0
        one[:, place + at, below + low] = -alpha * alive
        two[:, place + at, below + high] = -beta * alive
        masks.append((nodes + starts[stage - first], alive, alive & moving))
        place += nodes.shape[1]
    neurons, alive, free = (torch.cat(part, 1) for part in zip(*masks, strict=True))
    mask = live[first].to(torch.float64)
    operator = network.affines[first].operator
    # A majorant's pattern: entries of a product that cancel only up to rounding belong to it.
    pattern = (dense(operator.majorant()) * mask) != 0
    order, patches = _patches(dense(operator) * mask, pattern, leaves)
    arrays = (x[order] for x in (neurons, one, two, alive, free, levels[0][2][:, 0]))
    return Link(first, last, *arrays, inner, patches, mask)


def _offsets(network: Network, first: int, last: int) -> list[int]:
    starts = [0]
    for stage in network.stages[first:last]:
        starts.append(starts[-1] + stage.shape[0])
    return starts


def _patches(matrix: Tensor, pattern: Tensor, leaves: Tensor) -> tuple[Tensor, Patches]:
    """An order of the windows, and the patches of the windows in that order."""
    support = pattern[leaves].any(1)
    groups, inverse, counts = torch.unique(support, dim=0, return_inverse=True, return_counts=True)
    if support.double().mean() > DENSE_SHARE or len(counts.unique()) > 1:
        groups, inverse = torch.ones_like(support[:1]), torch.zeros_like(inverse)
    order = inverse.argsort(stable=True)
    # Entries outside the support fill up the columns of smaller patches: their weights are 0.
    columns = groups.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    columns = columns[:, : max(int(groups.sum(1).max()), 1)]
    rows = leaves[order].reshape(len(groups), -1)
    weight = matrix[rows.unsqueeze(2), columns.unsqueeze(1)]
    return order, Patches(weight, rows, columns, matrix.shape[1])
