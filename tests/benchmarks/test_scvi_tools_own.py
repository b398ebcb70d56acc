"""What scvi-tools' own attributions are, in cases that can be computed by hand."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from mudata import MuData

import lucidvi as lv

GENES = ["first", "second", "third"]
COUNTS = np.array([[1, 2, 4], [3, 1, 1], [0, 5, 2], [2, 2, 2]], np.float32)
QUIET = {"soft": True, "ig_interpretability": True}


def linear_scanvi(weight, genes: list[str] = GENES) -> scvi.model.SCANVI:
    """SCANVI whose logits are (0, x . weight): the encoder passes the counts through, the classifier is one layer."""
    adata = AnnData(COUNTS.copy(), var=pd.DataFrame(index=genes))
    adata.obs["label"] = ["a", "b", "a", "b"]
    scvi.model.SCANVI.setup_anndata(adata, labels_key="label", unlabeled_category="unknown")
    model = scvi.model.SCANVI(
        adata, n_hidden=3, n_latent=3, n_layers=1, dropout_rate=0.0, linear_classifier=True,
        use_batch_norm="none", use_layer_norm="none", log_variational=False,
    )  # fmt: skip
    encoder = model.module.z_encoder
    layers = [m for m in encoder.encoder.modules() if isinstance(m, torch.nn.Linear)]
    (classifier,) = [m for m in model.module.classifier.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for layer in (*layers, encoder.mean_encoder):
            layer.weight[:] = torch.eye(3)
            layer.bias[:] = 0.0
        classifier.weight[:] = torch.tensor([[0.0, 0.0, 0.0], weight])
        classifier.bias[:] = 0.0
    model.module.eval()
    model.is_trained = True
    return model


@pytest.mark.parametrize("weight", list(permutations([0.5, 1.0, 2.0])))
def test_genes_and_numbers_of_scvi_tools_belong_together(weight):
    model = linear_scanvi(weight)
    soft, table = model.predict(**QUIET)
    assert (soft["b"] > 0.5).all()  # so that logit b is explained in every cell
    by_hand = COUNTS * np.array(weight)
    expected = pd.Series(by_hand.mean(0), GENES)
    found = table.set_index("feature")["attribution_mean"]
    np.testing.assert_allclose(found[GENES], expected, rtol=1e-5)
    assert list(table["feature"]) == list(expected.sort_values(ascending=False).index)
    np.testing.assert_allclose(
        table.set_index("feature")["attribution_std"][GENES], by_hand.std(0), rtol=1e-5
    )


@pytest.mark.parametrize("weight", list(permutations([0.5, 1.0, 2.0])))
def test_row_labels_and_feature_idx_of_scvi_tools_are_shifted(weight):
    model = linear_scanvi(weight)
    table = model.predict(**QUIET)[1]
    # what stands beside the name: right for all genes but the last, whose position is -1
    assert table.set_index("feature")["feature_idx"].to_dict() == {"first": 0, "second": 1, "third": -1}  # fmt: skip
    # the label of a row is no rank: the gene of rank r is in the row of the rank of the *next* gene
    rank = {name: r for r, name in enumerate(table["feature"])}
    label = dict(zip(table["feature"], table.index, strict=True))
    following = dict(zip(GENES, GENES[1:] + GENES[:1], strict=True))
    assert label == {name: rank[following[name]] for name in GENES}
    assert table.loc[0, "feature"] != table["feature"].iloc[0]


def test_labels_are_not_shifted_but_mixed():
    model = linear_scanvi([1.0, -1.0, 0.25])
    soft, table = model.predict(**QUIET)
    logit = COUNTS @ np.array([1.0, -1.0, 0.25])
    np.testing.assert_allclose(soft["b"], 1 / (1 + np.exp(-logit)), rtol=1e-5)
    # each cell is explained for its own label: logit a is constant, so cells called a contribute nothing
    called_b = logit > 0
    assert 0 < called_b.sum() < len(logit)
    by_hand = (COUNTS * np.array([1.0, -1.0, 0.25]) * called_b[:, None]).mean(0)
    np.testing.assert_allclose(table.set_index("feature")["attribution_mean"][GENES], by_hand, atol=1e-6)  # fmt: skip


def test_ours_in_the_same_case():
    weight = np.array([0.5, -1.0, 0.25])
    model = linear_scanvi(list(weight))
    lv.explain.attributions(
        model, {"label": ["a", "b"]}, method="integrated_gradients", n_draws=1000, n_cells=None,
        per_cell=False, progress=False,
    )  # fmt: skip
    logit = COUNTS @ weight
    gain = 1 / (1 + np.exp(-logit)) - 0.5
    by_hand = (COUNTS * weight * (gain / logit)[:, None]).mean(0)
    found = model.adata.varm["attributions"]
    np.testing.assert_allclose(found[:, 1], by_hand, rtol=1e-4)
    np.testing.assert_allclose(found[:, 0], -by_hand, rtol=1e-4)
    np.testing.assert_allclose(model.adata.uns["attributions"]["columns"]["total"], [-gain.mean(), gain.mean()], rtol=1e-4)  # fmt: skip


def test_methylation_of_scvi_tools_is_assigned_to_other_features():
    regions = pd.DataFrame(index=GENES)
    rng = np.random.default_rng(0)

    def context() -> AnnData:
        cov = rng.integers(4, 9, (4, 3)).astype(np.float32)
        return AnnData(np.zeros((4, 3), np.float32), var=regions.copy(), layers={"mc": np.minimum(COUNTS, cov), "cov": cov})  # fmt: skip

    mdata = MuData({"mCG": context(), "mCH": context()})
    mdata.obs["label"] = ["a", "b", "a", "b"]
    scvi.external.METHYLANVI.setup_mudata(
        mdata, mc_layer="mc", cov_layer="cov", labels_key="label", unlabeled_category="unknown",
        methylation_contexts=["mCG", "mCH"], modalities={"labels_key": None},
    )  # fmt: skip
    model = scvi.external.METHYLANVI(
        mdata, n_hidden=12, n_latent=12, n_layers=1, dropout_rate=0.0, linear_classifier=True,
        use_batch_norm="none", use_layer_norm="none", log_variational=False,
    )  # fmt: skip
    encoder = model.module.z_encoder
    (first,) = [m for m in encoder.encoder.modules() if isinstance(m, torch.nn.Linear)]
    (classifier,) = [m for m in model.module.classifier.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for layer in (first, encoder.mean_encoder):
            layer.weight[:, :12] = torch.eye(12)
            layer.bias[:] = 0.0
        classifier.weight[:] = classifier.bias[:] = 0.0
        classifier.weight[1, 5] = 2.0  # methylated counts of the third region in the second context
    model.module.eval()
    model.is_trained = True
    table = model.predict(**QUIET)[1].set_index(["modality", "feature"])["attribution_mean"]
    right = 2.0 * mdata["mCH"].layers["mc"][:, 2].mean()
    # inputs are mc of all contexts and then cov of all contexts; names are those of one context after the other
    assert table["mCH_mc", "third"] == 0.0
    np.testing.assert_allclose(table["mCG_cov", "third"], right, rtol=1e-3)  # batch norm: eps
