"""Linear regressions of all emotions and all values of C at once, and of each a proof of how exact it is.

A clip's scaled features, with a 1 appended whose weight is the intercept (penalised, as in liblinear), are x; with
r = y − x·w and one dual variable a per clip,

    absolute   min ½‖w‖² + C Σ |r|    max aᵀy − ½‖Xᵀa‖²,            |a| ≤ C
    squared    min ½‖w‖² + C Σ r²     max aᵀy − ½‖Xᵀa‖² − ‖a‖²/4C

Whatever w and a are, the optimum lies between the two values; their difference, the duality gap, is a sum of squares
and of other terms that are never negative:

    gap = ½‖w − Xᵀa‖² + Σ (C |r| − a·r)    or    ½‖w − Xᵀa‖² + C Σ (r − a/2C)²

Both problems are solved in the eigenbasis of the Gram matrix, which all of them share: w = V z, Q = X V, QᵀQ = diag(λ).
The squared one is ridge regression: z = 2C/(1 + 2Cλ) Qᵀy. The absolute one takes an alternating direction method
(Boyd et al., 2011, section 6.1), each of whose steps is two products with Q, and whose a is always feasible. Starting a
C from the solution of a smaller one saves less than a twentieth of the steps: all go at once, from zero.

Shapes: N clips, F features, P problems (an emotion with a C), R = min(N, F + 1) coordinates. All in float64, but
for the first steps of a large problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EXACT = 1e-4  # duality gap that a fit is to reach, relative to the objective
# The gap is to be small against half the squared slopes, too: the objective is nearly all labels if C is small. The
# root of this number bounds the relative error of the slopes, which as a rule is a tenth of that; in a large problem it
# is less than liblinear's still, and takes about half of the steps.
CLOSE, CLOSE_IF_LARGE = 1e-4, 1e-3
FLOOR = 1e-9  # of the objective: no gap needs to be smaller, as where all slopes are 0
ROUNDED = 0.999  # of EXACT: so that rounding does not lift what the features themselves say above it
LIMIT = 20_000  # steps
RELAXED = 1.6  # over-relaxation
RESCALED = [10 * 2**n for n in range(12)]  # steps after which ρ is set anew, ever more rarely: so it converges
LARGE = 10_000_000  # numbers in Q from which on its products are limited by memory, and float32 saves half of it
SINGLE = 3e-6  # of the labels' part of an objective: a gap that is not lost in the rounding of float32
NEAR = 1.2  # of the gap that a problem is to reach: within it, all is float64
CHUNK = 2048  # clips, or features, that are converted to float64 at once
BLOCKS = 4  # of columns: of a symmetric product of that size, three eighths are left out
EVEN = 1e-6  # of a mean residual: what a spread of predictions counts as at least
SMALL = 1e-2  # of a mean label: what a scale counts as at least
TINY = 1e-300  # of an objective
Advance = Callable[[int, float], None]  # steps done, worst gap


@dataclass(frozen=True, eq=False)
class Design:
    """X (N, F + 1): the scaled features of some clips, piece by piece from those that are stored, and a column of 1."""

    features: np.ndarray  # (N, F)
    shift: Tensor  # (F,)
    scale: Tensor  # (F,)

    @property
    def wide(self) -> bool:
        """Whether there are more columns than clips."""
        return self.features.shape[1] >= len(self.features)

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows and their part of X."""
        for rows, piece in pieces(self.features, self.shift.device):
            yield rows, torch.cat([(piece - self.shift) / self.scale, piece.new_ones(len(piece), 1)], 1)

    def predict(self, weights: Tensor) -> Tensor:
        """(P, F + 1) → (P, N)."""
        return torch.cat([weights @ piece.T for _, piece in self.pieces()], 1)

    def combine(self, a: Tensor) -> Tensor:
        """Sums of clips, each times its number: (P, N) → (P, F + 1)."""
        return torch.stack([a[:, rows] @ piece for rows, piece in self.pieces()]).sum(0)


def pieces(features: np.ndarray, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(features), CHUNK):
        rows = slice(start, min(start + CHUNK, len(features)))
        yield rows, torch.from_numpy(np.ascontiguousarray(features[rows])).to(device).double()


class Scatter:
    """Sums over clips from which the Gram matrix follows for every scaler; more clips can join.

    Attributes:
        count: of clips.
        total: Σ (x − centre), (F,).
        products: Σ (x − centre)(x − centre)ᵀ, (F, F), its lower triangle alone.
    """

    def __init__(self, centre: Tensor) -> None:
        width = len(centre)
        self.centre, self.count, self.total = centre, 0, torch.zeros_like(centre)
        self.products = centre.new_zeros(width, width)

    def add(self, features: np.ndarray) -> None:
        width = -(-len(self.centre) // BLOCKS)
        for _, piece in pieces(features, self.centre.device):
            centred = piece - self.centre
            self.count += len(centred)
            self.total += centred.sum(0)
            for start in range(0, len(self.centre), width):
                below = centred[:, start:]
                self.products[start:, start : start + width].addmm_(below.T, below[:, :width])

    def gram(self, shift: Tensor, scale: Tensor) -> Tensor:
        """XᵀX (F + 1, F + 1) of the features less shift, by scale; its lower triangle alone."""
        width, moved = len(shift), self.centre - shift
        gram = shift.new_zeros(width + 1, width + 1)
        gram[:-1, :-1] = self.products
        gram[:-1, :-1].addr_(self.total + self.count * moved, moved).addr_(moved, self.total)
        gram[:-1, :-1].div_(scale).div_(scale[:, None])
        gram[-1, :-1] = (self.total + self.count * moved) / scale
        gram[-1, -1] = self.count
        return gram


def decompose(design: Design, scatter: Scatter | None) -> tuple[Tensor, Tensor]:
    """Eigenvalues (R,) and eigenvectors of XᵀX (F + 1, R); where X is wide of XXᵀ (N, R), without `scatter`."""
    if not design.wide:
        assert scatter is not None
        values, vectors = torch.linalg.eigh(scatter.gram(design.shift, design.scale))
        return values.clamp(min=0), vectors
    device, width = design.shift.device, design.features.shape[1]
    gram = torch.ones(len(design.features), len(design.features), dtype=torch.float64, device=device)
    for start in range(0, width, CHUNK):
        columns = slice(start, start + CHUNK)
        part = torch.from_numpy(np.ascontiguousarray(design.features[:, columns])).to(device).double()
        part = (part - design.shift[columns]) / design.scale[columns]
        gram.addmm_(part, part.T)
    values, vectors = torch.linalg.eigh(gram)
    real = values > values[-1] * len(values) * torch.finfo(values.dtype).eps  # others are rounding
    return values[real], vectors[:, real]


@dataclass(frozen=True, eq=False)
class Basis:
    """X in the coordinates in which all its problems are solved."""

    values: Tensor  # (R,), λ
    vectors: Tensor  # as `decompose` gives them
    turned: Tensor  # (N, R), Q

    @classmethod
    def of(cls, design: Design, values: Tensor, vectors: Tensor) -> Basis:
        if design.wide:
            return cls(values, vectors, vectors * values.sqrt())
        turned = vectors.new_empty(len(design.features), len(values))
        for rows, piece in design.pieces():
            torch.mm(piece, vectors, out=turned[rows])
        return cls(values, vectors, turned)

    @property
    def large(self) -> bool:
        return self.turned.numel() >= LARGE

    @property
    def intercept(self) -> Tensor:
        """(R,): its product with z is the intercept."""
        return self.vectors.sum(0) / self.values.sqrt() if len(self.vectors) == len(self.turned) else self.vectors[-1]

    def weights(self, design: Design, z: Tensor) -> Tensor:
        """(P, R) → (P, F + 1)."""
        if design.wide:
            return design.combine(z / self.values.sqrt() @ self.vectors.T)
        return z @ self.vectors.T


@dataclass(frozen=True, eq=False)
class Solution:
    """The solutions of P problems."""

    weights: Tensor  # (P, F + 1), the last one the intercept
    gaps: Tensor  # (P,) relative to the objective
    steps: Tensor  # (P,)


def solve(
    design: Design, basis: Basis, y: Tensor, costs: Tensor, squared: bool, advance: Advance | None = None
) -> Solution:
    """Solve problems with labels y (P, N) and costs C (P,)."""
    if squared:
        turned, values = basis.turned, basis.values
        z = 2 * costs[:, None] / (1 + 2 * costs[:, None] * values) * (y @ turned)
        a, steps = 2 * costs[:, None] * (y - z @ turned.T), torch.zeros(len(y), dtype=torch.long)
    else:
        z, a, steps = absolute(basis, y, costs, advance)
    weights = basis.weights(design, z)
    objective, gap = prove(design, y, costs, squared, weights, a)
    return Solution(weights, gap / objective.clamp(min=TINY), steps)


def prove(design: Design, y: Tensor, costs: Tensor, squared: bool, weights: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Objective (P,) of weights (P, F + 1), and the most that it lies above the optimum, by any a (P, N).

    It asks the features alone, and so tells of a wrong decomposition as well.
    """
    cost, residual = costs[:, None], y - design.predict(weights)
    a = a if squared else a.clamp(-cost, cost)
    loss = residual.square() if squared else residual.abs()
    excess = cost * (residual - a / (2 * cost)).square() if squared else cost * loss - a * residual
    gap = (weights - design.combine(a)).square().sum(1) / 2 + excess.sum(1)
    return weights.square().sum(1) / 2 + costs * loss.sum(1), gap


@dataclass
class State:
    """The state of the K problems that are not solved yet."""

    place: Tensor  # (K,) among all
    y: Tensor  # (K, N)
    cost: Tensor  # (K, 1)
    step: Tensor  # (K, 1), the penalty ρ
    r: Tensor  # (K, N)
    a: Tensor  # (K, N)
    qy: Tensor  # (K, R), y in the basis: Qᵀy; as the next two
    qr: Tensor
    qa: Tensor

    def keep(self, which: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[which])

    def rescale(self, predicted: Tensor) -> None:
        """Set ρ to C by the scale of what is to be settled: of the residuals, and of predictions that hardly vary."""
        residual = (self.y - predicted).abs().mean(1, keepdim=True)
        spread = predicted.std(1, keepdim=True, unbiased=False)
        between = (residual * spread.clamp(EVEN * residual, residual)).sqrt()
        self.step = self.cost / between.maximum(least_scale(self.y))


def absolute(basis: Basis, y: Tensor, costs: Tensor, advance: Advance | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Solve problems of the absolute loss, in LIMIT steps at most: z (P, R), a (P, N), steps (P,).

    Qᵀr needs no product of its own: all but Qᵀa follows from what is there. Where the gap is far above what float32
    rounds, products of a large Q are of that precision.
    """
    turned, values, cost, qy = basis.turned, basis.values, costs[:, None], y @ basis.turned
    step = cost / (y - y.median(1, keepdim=True).values).abs().mean(1, keepdim=True).maximum(least_scale(y))
    place, far = torch.arange(len(y), device=y.device), torch.full((len(y),), basis.large, device=y.device)
    rounded = turned.float() if far.any() else turned
    now = State(place, y, cost, step, y, torch.zeros_like(y), qy, qy, torch.zeros_like(qy))
    solutions = torch.zeros_like(qy), torch.zeros_like(y), torch.full((len(y),), LIMIT)
    for count in range(1, LIMIT + 1):
        z = now.step / (1 + now.step * values) * (now.qy - now.qr + now.qa / now.step)
        predicted = product(z, turned.T, rounded.T, far)
        point = now.y - RELAXED * predicted - (1 - RELAXED) * (now.y - now.r) + now.a / now.step
        qpoint = now.qy - RELAXED * values * z - (1 - RELAXED) * (now.qy - now.qr) + now.qa / now.step
        now.a = (now.step * point).clamp(-now.cost, now.cost)
        now.qa = product(now.a, turned, rounded, far)
        now.r, now.qr = point - now.a / now.step, qpoint - now.qa / now.step
        relative, allowed, single = gap_of(basis, now, z, predicted)
        if advance:
            advance(count, float((relative / allowed).max()) * EXACT)
        done = ((relative <= allowed) & ~far) | (count == LIMIT)
        far = (relative > single.maximum(NEAR * allowed)) & basis.large
        if count in RESCALED:
            done |= torch.le(*gap_of(basis, now, now.qa, now.qa @ turned.T)[:2])  # the other one of `better`
        if done.any():
            place = now.place[done]
            solutions[0][place] = better(turned, now, z, done)
            solutions[1][place], solutions[2][place.cpu()] = now.a[done], count
            if done.all():
                break
            predicted, far = predicted[~done], far[~done]
            now.keep(~done)
        if count in RESCALED:
            now.rescale(predicted)
    return solutions


def product(rows: Tensor, matrix: Tensor, rounded: Tensor, far: Tensor) -> Tensor:
    """Rows (K, n) times a matrix (n, m), in float32 where all are far from their solution (K,).

    Memory is what limits it: two products, each of some rows, would take longer than one of all.
    """
    return (rows.float() @ rounded).double() if far.all() else rows @ matrix


def least_scale(y: Tensor) -> Tensor:
    """(P, N) → (P, 1)."""
    return (SMALL * y.abs().mean(1, keepdim=True)).clamp(min=1e-12)


def gap_of(basis: Basis, now: State, z: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gap of each problem, relative to its objective; the one that it is to reach, and the one that float32 can."""
    residual = now.y - predicted
    square, loss = z.square().sum(1), now.cost[:, 0] * residual.abs().sum(1)
    gap = (z - now.qa).square().sum(1) / 2 + loss - (now.a * residual).sum(1)
    objective = (square / 2 + loss).clamp(min=TINY)
    slopes = square - (z @ basis.intercept).square()
    close = CLOSE_IF_LARGE if basis.large else CLOSE
    single = SINGLE * now.cost[:, 0] * now.y.abs().sum(1)
    return gap / objective, (close * slopes / 2 / objective).clamp(FLOOR, ROUNDED * EXACT), single / objective


def better(turned: Tensor, now: State, z: Tensor, done: Tensor) -> Tensor:
    """z or Xᵀa, which are equal at the optimum: the one with the lower objective, for the problems that are done.

    Where every |a| = C, as with a small C, Xᵀa is the optimum itself.
    """
    both = torch.stack([now.qa[done], z[done]])
    loss = (now.y[done] - both @ turned.T).abs().sum(2)
    lower = (both.square().sum(2) / 2 + now.cost[done, 0] * loss).argmin(0)
    return both[lower, torch.arange(len(lower), device=lower.device)]
