"""k-means as the last layer of a network, so that an assignment can be followed back to the input :cite:p:`Lu2021`."""

import torch
from torch import Tensor


class NeuralKMeans:
    """Soft assignment of points to centroids, as logits.

    Parameters
    ----------
    centroids
        Shape ``(n_groups, n_latent)``, at least two.
    beta
        Stiffness: the assignment is proportional to ``exp(-beta * squared distance)``.
    """

    def __init__(self, centroids: Tensor, beta: float):
        if centroids.ndim != 2 or len(centroids) < 2:
            raise ValueError(
                f"centroids has shape {tuple(centroids.shape)}, but needs at least two rows."
            )
        if not beta > 0:
            raise ValueError(f"beta={beta} must be positive.")
        self.centroids, self.beta = centroids, float(beta)

    def logits(self, z: Tensor) -> Tensor:
        """``log(p / (1 - p))`` of every group, shape ``(n, n_groups)``.

        For group ``c`` this is ``-log sum_{k != c} exp(-h_ck)`` with ``h_ck = beta * (|z - mu_k|**2 - |z - mu_c|**2)``,
        linear in ``z``: a first layer and a soft minimum over the other groups.
        """
        mu = self.centroids.to(z)
        score = self.beta * (2 * z @ mu.T - mu.square().sum(1))  # -beta * distance, up to |z|**2
        none = torch.full_like(score[:, :1], -torch.inf)
        before = torch.cat([none, score[:, :-1].logcumsumexp(1)], 1)
        after = torch.cat([none, score[:, 1:].flip(1).logcumsumexp(1)], 1).flip(1)
        return score - torch.logaddexp(before, after)

    def predict(self, z: Tensor) -> Tensor:
        """Nearest centroid of each point."""
        return self.logits(z).argmax(1)


def default_beta(z: Tensor, centroids: Tensor) -> Tensor:
    """Twice the inverse of the mean squared distance to the nearest centroid: the same at any scale of the latent space."""
    return 2.0 / torch.cdist(z, centroids).square().min(1).values.mean().clamp_min(1e-12)
