"""What sets of features add to a latent space: their main variation within the groups of cells that the space shows."""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

_RIDGE = 20.0  # cells' worth of doubt about covariates that act differently in one group
_LEAST_CELLS = 30  # of a group that has components of its own
_LEAST_SPREAD = 0.2  # of a feature in a group, as a share of its spread in all groups
_MAX_CELLS = 20_000  # for the read-out of groups
_CELLS_PER_CLUSTER = 100
_MAX_CLUSTERS = 10


@dataclass
class GroupReadout:
    """Tell the group of a cell from its latent position, by a logistic regression."""

    names: np.ndarray
    weight: np.ndarray
    """Shape ``(n_latent, n_groups)``."""
    bias: np.ndarray
    """Shape ``(n_groups,)``."""

    @classmethod
    def fit(cls, z: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> "GroupReadout":
        """Learn from some cells, shape ``(n_cells, n_latent)``, and the group of each."""
        scaler, names = StandardScaler().fit(z), np.unique(groups)
        if len(names) == 1:
            return cls(names, np.zeros((z.shape[1], 1)), np.zeros(1))
        some = rng.permutation(len(z))[:_MAX_CELLS]
        known = np.unique(groups, return_index=True)[1]  # a cell of each, however rare
        some = np.union1d(some, known)
        model = LogisticRegression(C=1.0, max_iter=500).fit(scaler.transform(z[some]), groups[some])
        weight, bias = model.coef_, model.intercept_
        if len(names) == 2:
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        weight = (weight / scaler.scale_).T
        return cls(names, weight, bias - scaler.mean_ @ weight)

    def predict(self, z: np.ndarray) -> np.ndarray:
        """Return the position of each cell's group in ``names``."""
        return (z @ self.weight + self.bias).argmax(1)


@dataclass
class Residuals:
    """Values less what group and covariates say, in units of their spread within the group."""

    covariate_mean: np.ndarray
    """Shape ``(n_covariates,)``."""
    effect: np.ndarray
    """Mean, then the effect of each covariate, shape ``(n_groups, 1 + n_covariates, n_features)``."""
    spread: np.ndarray
    """Shape ``(n_groups, n_features)``; infinite where a feature does not vary in a group."""

    @classmethod
    def fit(cls, x: np.ndarray, covariates: np.ndarray, group: np.ndarray, n_groups: int) -> "Residuals":  # fmt: skip
        """Learn from some cells.

        Effects of covariates are those in all groups together, and what a group deviates from them, which is shrunk.

        Parameters
        ----------
        x
            Values, shape ``(n_cells, n_features)``.
        covariates
            Such as batches and depth, shape ``(n_cells, n_covariates)``.
        group
            Group of each cell, by number.
        n_groups
            Number of groups; one without cells has the mean of all cells.
        """
        mean = covariates.mean(0)
        c = covariates - mean
        inside = [group == g for g in range(n_groups)]
        x_in, c_in = x.copy(), c.copy()
        for cells in inside:
            x_in[cells] -= x[cells].mean(0) if cells.any() else 0.0
            c_in[cells] -= c[cells].mean(0) if cells.any() else 0.0
        common = np.linalg.solve(c_in.T @ c_in + 1e-3 * np.eye(c.shape[1]), c_in.T @ x_in)
        rest = x - c @ common
        effect = np.tile(np.concatenate([rest.mean(0, keepdims=True), common]), (n_groups, 1, 1))
        ridge = _RIDGE * np.diag(c.var(0)) + 1e-6 * np.eye(c.shape[1])
        left = rest - rest.mean(0)
        for g, cells in enumerate(inside):
            if not cells.any():
                continue
            own = c[cells] - c[cells].mean(0)
            deviation = np.linalg.solve(own.T @ own + ridge, own.T @ (rest[cells] - rest[cells].mean(0)))  # fmt: skip
            effect[g, 1:] += deviation
            effect[g, 0] = (x[cells] - c[cells] @ effect[g, 1:]).mean(0)
            left[cells] = x[cells] - effect[g, 0] - c[cells] @ effect[g, 1:]
        whole = left.std(0)
        spread = np.stack([left[cells].std(0) if cells.sum() > 1 else whole for cells in inside])
        spread = np.maximum(spread, _LEAST_SPREAD * whole)
        # what does not vary in a group has no residual there, whatever depth does to it elsewhere
        flat = np.zeros(spread.shape, dtype=bool)
        for g, cells in enumerate(inside):
            flat[g] = cells.any() and np.ptp(x[cells], axis=0) < 1e-9
        return cls(mean, effect, np.where(flat | (spread <= 1e-8), np.inf, spread))

    def of(self, x: np.ndarray, covariates: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Return the residuals of some cells, shape ``(n_cells, n_features)``."""
        c = covariates - self.covariate_mean
        out = np.empty_like(x)
        for g in np.unique(group):
            cells = group == g
            out[cells] = (x[cells] - self.effect[g, 0] - c[cells] @ self.effect[g, 1:]) / self.spread[g]  # fmt: skip
        return out


@dataclass
class SetBlock:
    """The main directions in which a set's features vary together within each group."""

    members: np.ndarray
    """Features of the set in each group, boolean, shape ``(n_groups, n_features)``."""
    components: np.ndarray
    """Weight of each feature, shape ``(n_groups, n_features, n_components)``."""
    explained: np.ndarray
    """Share of the set's variance within a group that the components have, shape ``(n_groups,)``; NaN for small groups."""

    @classmethod
    def fit(cls, residuals: np.ndarray, group: np.ndarray, members: np.ndarray, n_components: int) -> "SetBlock":  # fmt: skip
        """Take principal components of each group's residuals; of all cells where a group has few.

        Their signs are such that most weights are positive: more of the set is further up.
        """
        n_groups, n_features = members.shape
        components = np.zeros((n_groups, n_features, n_components))
        explained = np.full(n_groups, np.nan)
        for g in range(n_groups):
            own = members[g]
            if not own.any():
                continue
            cells = group == g
            part = residuals[cells if cells.sum() >= _LEAST_CELLS else slice(None)][:, own]
            covariance = (part.T @ part / len(part)).astype(np.float64)
            values, vectors = np.linalg.eigh(covariance)
            k = min(n_components, own.sum())
            first = vectors[:, ::-1][:, :k]
            first = first * np.where(first.sum(0) < 0, -1.0, 1.0)
            components[g, own, :k] = first
            if cells.sum() >= _LEAST_CELLS and values.sum() > 1e-9:
                explained[g] = values[::-1][:k].sum() / values.sum()
        return cls(members, components, explained)

    def of(self, residuals: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates, shape ``(n_cells, n_components)``, and the mean residual of the set in each cell."""
        block = np.zeros((len(residuals), self.components.shape[2]))
        score = np.zeros(len(residuals))
        for g in np.unique(group):
            cells, own = group == g, self.members[g]
            if own.any():
                block[cells] = residuals[cells] @ self.components[g]
                score[cells] = residuals[np.ix_(cells, own)].mean(1)
        return block, score


def clusters(z: np.ndarray, seed: int | None) -> np.ndarray:
    """Return k-means clusters of latent positions, to stand for types where there are none: names, ``(n_cells,)``."""
    n = int(np.clip(len(z) // _CELLS_PER_CLUSTER, 1, _MAX_CLUSTERS))
    return np.array([f"cluster {c}" for c in KMeans(n, n_init=3, random_state=seed).fit_predict(z)])


def near_distances(spaces: list[np.ndarray], n_neighbors: int, rng: np.random.Generator) -> list[float]:  # fmt: skip
    """Return mean squared distances, in each of some spaces, of cells that are nearest in the first."""
    some = rng.permutation(len(spaces[0]))[:_MAX_CELLS]
    spaces = [space[some] for space in spaces]
    n = min(n_neighbors, len(some) - 1)
    near = NearestNeighbors(n_neighbors=n).fit(spaces[0]).kneighbors(return_distance=False)
    return [float(np.square(v[near] - v[:, None]).sum(-1).mean()) for v in spaces]


def scale_beside(far: float, far_in_block: float, share: float) -> float:
    """Return the factor of a block at which its squared distances are ``share`` times those of a space; 0 for a constant block."""
    return float(np.sqrt(share * far / far_in_block)) if far_in_block > 1e-12 else 0.0
