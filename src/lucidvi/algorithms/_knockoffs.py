"""Model-X knockoffs: copies of genes that keep all correlations but know nothing of the groups."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh
from sklearn.isotonic import isotonic_regression

_BLOCK = 64  # coordinates between two updates of the large inverse
_SWEEPS = 10
_LEAST_EIGENVALUE = 1e-3  # of correlations; some features may be sums of others


class GaussianKnockoffs:
    r"""Knockoffs that share means and covariances with a matrix (second order, :cite:p:`Candes2018`).

    Each row of the knockoffs is drawn from a normal distribution given the row of the matrix, such that the covariance
    matrix of ``[x, knockoff 1, ..., knockoff M]`` stays the same when a feature and one of its knockoffs trade places.

    Correlations are shrunk, see :func:`shrunk_correlation`, so that there may be fewer cells than features. No low-rank
    model is put in their place: pairs of genes that follow each other make for false discoveries, and few factors miss
    them.

    How far a knockoff may be from its feature is told by ``s``: a feature's covariance with its knockoff is its variance
    less ``s``. The default makes all variables as hard as possible to reconstruct from each other: the sum of the
    inverse variances of each given all others is least (MVR, :cite:p:`Spector2022`). It is found by coordinate descent
    with closed-form steps rather than a semi-definite programme. Steps are gathered for 64 coordinates, so that the
    inverse is updated by products of matrices, and a sweep costs about as much as two inversions: on one core about 20
    seconds in all for 2,000 features, some minutes for 5,000.

    Parameters
    ----------
    x
        Values, shape ``(n_cells, n_features)``, without constant columns. Never select its rows or columns with a look
        at the groups' differences. Log-normalised counts need no transformation: knockoffs with the same marginals (a
        Gaussian copula) kept to the wanted rate no better on simulated and real counts.
    n_copies
        Knockoffs of each feature, drawn jointly :cite:p:`Gimenez2019`.
    method
        ``"mvr"``, or ``"equicorrelated"``: the same ``s`` for all features.

    Attributes
    ----------
    correlation
        Shrunk correlations, shape ``(n_features, n_features)``.
    s
        Shape ``(n_features,)``, in units of each feature's variance.
    mean, scale
        Mean and standard deviation of each feature.

    Raises
    ------
    ValueError
        If ``x`` is no finite matrix with at least 3 rows, or has constant columns; if an option is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.algorithms._knockoffs import GaussianKnockoffs
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((500, 20)) + rng.standard_normal((500, 1))
    >>> GaussianKnockoffs(x, n_copies=2).sample(x, rng).shape
    (2, 500, 20)
    """

    def __init__(self, x: np.ndarray, *, n_copies: int = 1, method: str = "mvr"):
        x = _checked(x)
        if n_copies < 1:
            raise ValueError(f"n_copies={n_copies} is too small, it must be at least 1.")
        if method not in ("mvr", "equicorrelated"):
            raise ValueError(f"method={method!r} is unknown. Allowed: 'mvr', 'equicorrelated'.")
        self.n_copies = n_copies
        self.mean, self.scale = x.mean(0), x.std(0)
        self.correlation = shrunk_correlation((x - self.mean) / self.scale)
        choose = reconstructability_s if method == "mvr" else equicorrelated_s
        self.s = choose(self.correlation, n_copies)
        self._pull, self._root = self._factors()

    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        """What is taken off the values, and the root of the covariance of the noise that all copies share."""
        pull = cho_solve(cho_factor(self.correlation, lower=True), np.diag(self.s))
        ratio = (self.n_copies + 1) / self.n_copies
        while True:
            shared = np.diag(ratio * self.s) - self.s[:, None] * pull
            try:
                # the addition is far below the sampling error of any correlation
                root = np.linalg.cholesky((shared + shared.T) / 2 + 1e-10 * np.eye(len(shared)))
                return pull, root.T
            except (
                np.linalg.LinAlgError
            ):  # by rounding; it ends, as the addition outweighs s at last
                self.s, pull = 0.95 * self.s, 0.95 * pull

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Knockoffs of the rows of a matrix, shape ``(n_copies, n_cells, n_features)``, in the units of ``x``."""
        z = (np.asarray(x, dtype=np.float64) - self.mean) / self.scale
        shared = z - z @ self._pull + rng.standard_normal(z.shape) @ self._root
        out = np.zeros((1, 1, 1))
        if self.n_copies > 1:
            out = rng.standard_normal((self.n_copies, *z.shape)) * np.sqrt(self.s)
            out -= out.mean(0)
        return (out + shared) * self.scale + self.mean


def shrunk_correlation(z: np.ndarray, *, n_folds: int = 4) -> np.ndarray:
    """Correlations of standardised features, positive definite also with fewer cells than features.

    Eigenvalues of sample correlations lie too far apart, the more so the fewer cells there are. Each is replaced by the
    variance of held-out cells along the eigenvector of the same rank, found without these cells, and the order is kept
    :cite:p:`Bartz2016`. Shrinking all by one share, as by Ledoit and Wolf, leaves small eigenvalues too small: features
    then seem easy to predict from each other, knockoffs resemble them, and power is lost.

    Parameters
    ----------
    z
        Shape ``(n_cells, n_features)``, columns of mean 0 and variance 1.
    n_folds
        Parts of the cells.
    """
    n, p = z.shape
    n_folds = min(n_folds, n)
    fold = np.random.default_rng(0).permutation(n) % n_folds
    rank = min(p, n - -(-n // n_folds))
    values, rest = np.zeros(rank), 0.0
    for k in range(n_folds):
        held_out = z[fold == k]
        along = np.square(held_out @ _directions(z[fold != k], rank)).mean(0)
        values += along / n_folds
        rest += (np.square(held_out).sum(1).mean() - along.sum()) / max(p - rank, 1) / n_folds
    rest = max(rest, _LEAST_EIGENVALUE) if rank < p else 0.0
    values = isotonic_regression(values, increasing=False).clip(max(rest, _LEAST_EIGENVALUE))
    vectors = _directions(z, rank)
    covariance = (vectors * (values - rest)) @ vectors.T
    covariance[np.diag_indices(p)] += rest
    scale = np.sqrt(np.diag(covariance))
    return covariance / scale / scale[:, None]


def _directions(z: np.ndarray, rank: int) -> np.ndarray:
    """First eigenvectors of the covariances, largest variance first, shape ``(n_features, rank)``."""
    if z.shape[1] <= len(z):
        return np.linalg.eigh(z.T @ z)[1][:, ::-1][:, :rank]
    values, vectors = np.linalg.eigh(z @ z.T)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    return z.T @ (vectors / np.sqrt(values.clip(1e-9 * values[0])))


def equicorrelated_s(correlation: np.ndarray, n_copies: int = 1) -> np.ndarray:
    """The largest ``s``, at most 1, that is the same for all features; shape ``(n_features,)``."""
    least = eigh(correlation, eigvals_only=True, subset_by_index=[0, 0])[0]
    return np.full(len(correlation), min(1.0, 0.999 * (n_copies + 1) / n_copies * least))


def reconstructability_s(
    correlation: np.ndarray, n_copies: int = 1, *, tolerance: float = 0.02
) -> np.ndarray:
    r"""The ``s`` that makes features and knockoffs hardest to reconstruct from each other (MVR, :cite:p:`Spector2022`).

    With :math:`M` copies the trace of the inverse of the joint covariance matrix is
    :math:`M \sum_j 1/s_j + \mathrm{tr}\,((M+1)\Sigma - M\,\mathrm{diag}(s))^{-1}`. It is minimised one coordinate at a
    time, each exactly.

    Parameters
    ----------
    correlation
        Positive definite, shape ``(n_features, n_features)``.
    n_copies
        Knockoffs of each feature.
    tolerance
        The end: no entry changes by more than this share of the largest in a sweep.
    """
    m, s = n_copies, 0.5 * equicorrelated_s(correlation, n_copies)
    order = np.random.default_rng(0).permutation(len(s))  # neighbours in the data may be related
    for _ in range(_SWEEPS):
        before = s.copy()
        # anew in each sweep, so that rounding does not add up
        inverse = _inverse((m + 1) * correlation - m * np.diag(s))
        for i in range(0, len(s), _BLOCK):
            block = order[i : i + _BLOCK]
            columns = inverse[:, block]
            own = columns[block].copy()
            change = np.diag(m * _descend(own.copy(), columns.T @ columns, s, block, m))
            inverse += columns @ np.linalg.solve(np.eye(len(block)) - change @ own, change) @ columns.T  # fmt: skip
        if np.abs(s - before).max() <= tolerance * s.max():
            break
    return s


def _descend(
    inverse: np.ndarray, square: np.ndarray, s: np.ndarray, block: np.ndarray, m: int
) -> np.ndarray:
    """Exact steps of the coordinates of a block, also made in ``s``; the block's inverse and its square follow."""
    steps = np.zeros(len(block))
    for k, j in enumerate(block):
        root = np.sqrt(square[k, k])
        steps[k] = (1 - root * s[j]) / (m * inverse[k, k] + root)
        s[j] += steps[k]
        weight = m * steps[k] / (1 - m * steps[k] * inverse[k, k])
        u, w, length = inverse[:, k].copy(), square[:, k].copy(), square[k, k]
        inverse += weight * np.outer(u, u)
        square += weight * (np.outer(u, w) + np.outer(w, u)) + weight**2 * length * np.outer(u, u)
    return steps


def _inverse(matrix: np.ndarray) -> np.ndarray:
    inverse = cho_solve(cho_factor(matrix, lower=True), np.eye(len(matrix)))
    return (inverse + inverse.T) / 2


def _checked(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) < 3 or not x.shape[1]:
        raise ValueError(f"x has shape {x.shape}. Pass a matrix of at least 3 cells by features.")
    if not np.isfinite(x).all():
        raise ValueError("x holds NaN or infinite values. Remove them, for example with `numpy.nan_to_num`.")  # fmt: skip
    constant = np.flatnonzero(np.ptp(x, axis=0) <= 1e-9 * np.abs(x).max(0))
    if len(constant):
        raise ValueError(
            f"{len(constant)} columns of x are constant, such as {constant[:3].tolist()}. Leave them out."
        )
    return x
