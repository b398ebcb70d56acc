"""What scvi-tools does with models of counts: differential expression and posterior predictive samples."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData
from scvi.model.base import RNASeqMixin

from lucidvi.model.sivae._module import SIVAEModule


class CountsMixin:
    """Differential expression and posterior predictive samples of a model with ``gene_likelihood="nb"``."""

    if TYPE_CHECKING:  # of the model's other bases
        module: SIVAEModule
        adata: Any
        _check_if_trained: Callable[..., None]

    def _get_transform_batch_gen_kwargs(self, batch: Any) -> dict[str, Any]:
        return {"transform_batch": batch}

    def _check_counts(self, what: str, weights: str | None = None) -> None:
        self._check_if_trained(warn=False)
        if isinstance(self.adata, MuData):
            raise ValueError(
                f"{what} is for models of AnnData. Pass the modality to setup_anndata."
            )
        if weights == "importance":
            raise ValueError(
                "weights='importance' is not supported. Leave it out, or pass 'uniform'."
            )
        if not self.module.counts:
            raise ValueError(
                f"{what} is for counts. Set up raw counts and create the model with gene_likelihood='nb'."
            )

    def differential_expression(self, *args: Any, **kwargs: Any) -> pd.DataFrame:
        """Test genes for differential expression between groups of cells, as scvi-tools does.

        Cells are drawn from each group, and their expression from the posterior of their latent positions. For models
        of counts.

        Parameters
        ----------
        *args, **kwargs
            As in :meth:`scvi.model.SCVI.differential_expression`.

        Returns
        -------
        Table of the genes with, among others, ``proba_de``, ``lfc_mean`` and ``bayes_factor``.

        Raises
        ------
        ValueError
            The model is not one of counts.

        Examples
        --------
        >>> import lucidvi as lv
        >>> import scvi
        >>> adata = scvi.data.synthetic_iid()
        >>> lv.model.SIVAE.setup_anndata(adata, batch_key="batch")
        >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(16,), gene_likelihood="nb")
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> table = model.differential_expression(groupby="labels", group1="label_0", mode="change", silent=True)
        >>> table.shape[0]
        100
        >>> model.posterior_predictive_sample(indices=range(5), n_samples=3).shape
        (5, 100, 3)
        """
        self._check_counts("differential_expression", kwargs.get("weights"))
        return RNASeqMixin.differential_expression(self, *args, **kwargs)

    def posterior_predictive_sample(self, *args: Any, **kwargs: Any) -> Any:
        """Draw counts of cells from the posterior predictive distribution, as scvi-tools does. For models of counts.

        Parameters
        ----------
        *args, **kwargs
            As in :meth:`scvi.model.SCVI.posterior_predictive_sample`.

        Returns
        -------
        Sparse array of shape ``(n_cells, n_features)``, or ``(n_cells, n_features, n_samples)`` for several samples.

        Raises
        ------
        ValueError
            The model is not one of counts.
        """
        self._check_counts("posterior_predictive_sample")
        return RNASeqMixin.posterior_predictive_sample(self, *args, **kwargs)

    def _drawn_expression(self, *args: Any, **kwargs: Any) -> np.ndarray | pd.DataFrame:
        """Expression with latent positions drawn from the posterior, as scvi-tools draws it."""
        self._check_counts("Drawing from the posterior (n_samples)", kwargs.get("weights"))
        return RNASeqMixin.get_normalized_expression(self, *args, **kwargs)
