"""Explanations in several processes or threads are those of one."""

from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv

SETTINGS: dict[str, Any] = {"copy": True, "progress": False}
CALLS = {
    "attributions": lambda m, n: lv.explain.attributions(
        m, {"latent": [0, 1]}, groupby="group", n_cells=20, n_draws=3, n_jobs=n, **SETTINGS
    ),
    "gene_panel": lambda m, n: lv.explain.gene_panel(
        m, "group", n_steps=4, n_null=2, n_bootstrap=2, n_jobs=n, **SETTINGS
    ),
    "faithfulness": lambda m, n: lv.explain.faithfulness(
        m, {"latent": [0]}, methods=["saliency", "deep_lift"], groupby="group", n_cells=20, n_null=3, n_models=1,
        n_bootstrap=3, n_jobs=n, **SETTINGS,
    ),
    "panel_confidence": lambda m, n: lv.explain.panel_confidence(
        m, n_copies=1, n_draws=2, n_jobs=n, **SETTINGS
    ),
    "set_effect": lambda m, n: lv.explain.set_effect(
        m, {"a": m.adata.var_names[:8], "b": m.adata.var_names[8:14]}, groupby="group", n_null=5, n_jobs=n, **SETTINGS,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    adata = lv.datasets.ace_simulation(200, n_groups=3, n_causal=10, n_dependent=10, n_noise=10)
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=3, hidden=(16,))
    model.train(5, enable_progress_bar=False, accelerator="cpu")
    lv.explain.gene_panel(model, "group", n_steps=4, n_bootstrap=0, progress=False)
    return model


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("name", CALLS)
def test_equal_to_one_after_the_other(model, name, backend):
    expected = CALLS[name](model, 1)
    with joblib.parallel_config(backend=backend):
        found = CALLS[name](model, 2)
    name = "gene_panel" if name == "panel_confidence" else name
    if name in expected.varm:
        np.testing.assert_array_equal(found.varm[name], expected.varm[name])
    for key, table in expected.uns[name].items():
        if isinstance(table, pd.DataFrame):
            pd.testing.assert_frame_equal(found.uns[name][key], table)
        elif isinstance(table, np.ndarray):
            np.testing.assert_array_equal(found.uns[name][key], table)
