"""Every storage name lucidvi writes, in one place."""

from typing import Final


class Key:
    """Names of the entries written into AnnData and MuData."""

    SUBSET_PERTURBATION: Final = "subset_perturbation"
    """``uns`` and ``varm`` of the explained modality: params, sets, features; single effects."""

    TRUTH: Final = "truth"
    """``mdata.uns``: the planted truth of a simulated data set."""

    X_GRIDS: Final = "X_grids"
    """``obsm`` of a modality: where a GRIDS latent representation is kept by convention."""
