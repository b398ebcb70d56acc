import re

import numpy as np
import pytest

import lucidvi as lv


def explain(model, genes="gene_0001", **options):
    lv.explain.subset_perturbation(model, genes, **{"n_null": 2, "progress": False} | options)


@pytest.fixture(autouse=True)
def no_search(monkeypatch):
    """Everything is checked before the first search."""

    def search(*args, **kwargs):
        raise AssertionError("searched before the input was checked")

    monkeypatch.setattr("lucidvi.explain.subset._found.search", search)


def test_unknown_gene(trained):
    with pytest.raises(ValueError, match="Gene 'gene_001' is unknown. Did you mean 'gene_0001'"):
        explain(trained, ["gene_0002", "gene_001"])
    with pytest.raises(ValueError, match="Gene 'GENE_0003' is unknown. Did you mean 'gene_0003'"):
        explain(trained, groupby="cell_type", groups={"type_0": "GENE_0003"})
    with pytest.raises(ValueError, match="Gene 'xyz' is unknown. Known: 'gene_0001', 'gene_0002'"):
        explain(trained, "xyz")


def test_unknown_group(trained):
    with pytest.raises(ValueError, match="Group 'typ_1' is unknown. Did you mean 'type_1'"):
        explain(trained, groupby="cell_type", groups=["type_0", "typ_1"])
    with pytest.raises(ValueError, match="Group 'B cells' is unknown. Known: 'type_0', 'type_1'"):
        explain(trained, groupby="cell_type", groups={"B cells": ["gene_0001"]})


def test_unknown_column(trained):
    with pytest.raises(KeyError, match="groupby='celltype' is not a column.*'cell_type'"):
        explain(trained, groupby="celltype")
    with pytest.raises(KeyError, match="feature_mask='marker' is not a column of .var.*'chrom'"):
        explain(trained, feature_mask="marker")


def test_unknown_peak(trained):
    with pytest.raises(ValueError, match="Feature 'chr1:1-2' is unknown. Did you mean 'chr1:"):
        explain(trained, feature_mask=["chr1:1-2"])
    with pytest.raises(ValueError, match=r"feature_mask has shape \(4,\), expected \(300,\)"):
        explain(trained, feature_mask=np.ones(4, dtype=bool))


def test_fewer_open_peaks_than_asked(trained):
    names = list(trained.adata["atac"].var_names[:3])
    message = "n_features=5, but only 3 peaks can be selected for gene 'gene_0001' in group 'all'"
    with pytest.raises(ValueError, match=message):
        explain(trained, n_features=5, feature_mask=names)
    for options in ({"min_openness": 0.99}, {"window": 0}, {"n_features": 301}):
        with pytest.raises(ValueError, match="Ask for fewer, or loosen feature_mask, window or"):
            explain(trained, **options)


def test_closed_peaks_cannot_be_masked(model):
    atac = model.adata["atac"]
    x = atac.X.tolil()
    x[model.train_indices, 2:] = 0
    atac.X = x.tocsr()
    with pytest.raises(ValueError, match="only 2 peaks can be selected"):
        explain(model, n_features=3)


def test_group_without_cells(model):
    kept = model.adata["atac"].obs["cell_type"].cat.add_categories("type_9")
    for part in (model.adata, model.adata["atac"], model.adata["rna"]):
        part.obs["cell_type"] = kept.to_numpy()
        part.obs["cell_type"] = part.obs["cell_type"].astype(kept.dtype)
    with pytest.raises(ValueError, match="Group 'type_9' is unknown"):
        explain(model, groupby="cell_type", groups=["type_9"])


@pytest.mark.parametrize(("part", "missing"), [("train", "held-out"), ("test", "training")])
def test_group_without_training_or_test_cells(model, part, missing):
    chosen = getattr(model, f"{part}_indices")[:7]
    column = np.where(np.isin(np.arange(400), chosen), "here", "there")
    model.adata.obs["part"] = column
    with pytest.raises(ValueError, match=f"Group 'here' has 7 cells but no {missing} cell"):
        explain(model, groupby="part", groups="here", n_features=2)


def test_missing_groups(model):
    model.adata.obs["part"] = np.full(400, None)
    with pytest.raises(ValueError, match="groupby='part' is missing for all 400 cells"):
        explain(model, groupby="part")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("n_features", 0), ("n_features", -1), ("n_candidates", 0), ("max_sweeps", 0)),
        *(("beam_size", 0), ("n_null", -1), ("n_restarts", -1)),
    ],
)
def test_too_small_numbers(trained, option, value):
    with pytest.raises(ValueError, match=f"{option}={value} is too small, it must be at least"):
        explain(trained, **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("n_features", 2.5), ("n_features", "10"), ("n_features", True), ("n_features", None)),
        *(("n_candidates", 8.0), ("max_sweeps", np.float64(3)), ("n_restarts", np.True_)),
        *(("beam_size", [5]), ("n_null", "100")),
    ],
)
def test_numbers_that_are_no_integers(trained, option, value):
    message = f"{option}={value!r} is of type {type(value).__name__}. Pass an integer"
    with pytest.raises(TypeError, match=re.escape(message)):
        explain(trained, **{option: value})


def test_integers_of_numpy(trained):
    with pytest.raises(AssertionError, match="searched before"):
        explain(trained, n_features=np.int64(2))


@pytest.mark.parametrize(
    ("option", "allowed"),
    [("direction", "'down', 'up'"), ("method", "'coordinate_descent', 'beam'"),
     ("start", "'greedy', 'random'")],
)  # fmt: skip
def test_unknown_options(trained, option, allowed):
    with pytest.raises(ValueError, match=f"{option}='sideways' is unknown. Allowed: {allowed}"):
        explain(trained, **{option: "sideways"})


def test_untrained_model(simulate):
    mdata = simulate(n_cells=50)
    lv.model.GRIDS.setup_mudata(mdata)
    model = lv.model.GRIDS(mdata)
    with pytest.raises(RuntimeError, match=r"not trained. Call model.train\(\) first"):
        explain(model)
    with pytest.raises(RuntimeError, match="not trained"):
        lv.explain.cross_effect(model)


def test_other_models(simulate):
    with pytest.raises(
        TypeError,
        match="Expected a trained model of scvi-tools or lucidvi as the first argument, got MuData",
    ):
        explain(simulate(n_cells=50))


def test_other_peaks(model):
    atac = model.adata["atac"]
    atac.var_names = [*atac.var_names[1:], "chr1:1-2"]
    with pytest.raises(
        ValueError,
        match="lack 1 of the 300 features of modality 'atac' that the model was set up with",
    ):
        explain(model)
    with pytest.raises(ValueError, match="lack 1 of the 300 features of modality 'atac'"):
        lv.explain.cross_effect(model)


def test_no_result(trained):
    with pytest.raises(
        KeyError, match="'other'.* holds no subset perturbation. Call lucidvi.explain.subset"
    ):
        lv.explain.cross_effect(trained, key="other")
