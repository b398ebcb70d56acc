"""Registry keys of the GRIDS model and of its minibatches."""

from typing import Final


class GRIDSKeys:
    """Names used in the scvi-tools registry."""

    RNA: Final = "X"
    ATAC: Final = "atac"
    LABELS: Final = "labels"
    BATCH: Final = "batch"
