"""What a set of peaks does, by changing the peaks of a copy and translating it."""

import numpy as np
import pytest


@pytest.fixture
def log_prediction():
    """Unclamped prediction of one gene with some peaks set to a value in all cells."""

    def predict(model, gene, cells, peaks=(), value=0.0):
        changed = model.adata.copy()
        x = changed["atac"].X.tolil()
        x[:, changed["atac"].var_names.get_indexer(list(peaks))] = value
        changed["atac"].X = x.tocsr()
        table = model.translate(changed, features=[gene], indices=cells, clamp=False)
        return table[gene].to_numpy(np.float64)

    return predict


@pytest.fixture
def expression(log_prediction):
    """The same as counts per 10,000."""
    return lambda *args, **kwargs: np.expm1(np.maximum(log_prediction(*args, **kwargs), 0.0))
