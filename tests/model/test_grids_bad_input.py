import mudata as md
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import lucidvi as lv


@pytest.fixture
def mdata(simulate):
    return simulate(n_cells=60)


def setup(mdata, **kwargs):
    lv.model.GRIDS.setup_mudata(mdata, **kwargs)


def test_not_a_mudata(mdata):
    with pytest.raises(TypeError, match="Expected a MuData object, got AnnData"):
        setup(mdata["rna"])
    with pytest.raises(NotImplementedError, match="two modalities.*setup_mudata"):
        lv.model.GRIDS.setup_anndata(mdata["rna"])


def test_missing_modality(mdata):
    message = r"Modality 'peaks' \(for 'atac_layer'\).*Known: 'rna', 'atac'.*modalities={'atac_"
    with pytest.raises(ValueError, match=message):
        setup(mdata, modalities={"atac_layer": "peaks"})
    renamed = md.MuData({"RNA": mdata["rna"], "atac": mdata["atac"]})
    with pytest.raises(ValueError, match="'rna' .*Did you mean 'RNA'"):
        setup(renamed)
    with pytest.raises(ValueError, match="unknown keys .'atac'.. Allowed: 'rna_layer', 'atac_l"):
        setup(mdata, modalities={"atac": "atac"})


@pytest.mark.parametrize("argument", ["labels_key", "batch_key"])
def test_missing_column(mdata, argument):
    with pytest.raises(KeyError, match=f"{argument}='celltype' is not a column.*'cell_type'"):
        setup(mdata, **{argument: "celltype"})


def test_missing_values_in_a_column(mdata):
    mdata.obs["cell_type"] = mdata.obs["cell_type"].where(np.arange(60) > 3)
    with pytest.raises(ValueError, match="labels_key='cell_type' is missing for 4 of 60 cells"):
        setup(mdata, labels_key="cell_type")


def test_modalities_that_disagree(mdata):
    mdata["atac"].obs["cell_type"] = mdata["atac"].obs["cell_type"].to_numpy()[::-1]
    mdata.obs = mdata.obs[[]]
    with pytest.raises(ValueError, match="The modalities disagree on 'cell_type' for .* cells"):
        setup(mdata, labels_key="cell_type")


def test_views(mdata):
    message = r"A view of MuData was given.*Call .copy\(\) on it: data = data\[...\].copy"
    with pytest.raises(ValueError, match=message):
        setup(mdata[:30])
    atac = mdata["atac"][:30]
    assert atac.is_view
    parts = md.MuData({"rna": mdata["rna"], "atac": atac})
    with pytest.raises(ValueError, match=r"modalities \['atac'\] are views.*data = data.copy\(\)"):
        setup(parts)
    for own in (mdata[:30].copy(), parts.copy()):
        setup(own)


def test_missing_layer(mdata):
    with pytest.raises(KeyError, match="Layer 'counts' is not in .layers of mdata.'rna'"):
        setup(mdata, rna_layer="counts")


def without_coordinates(mdata, names):
    atac = mdata["atac"].copy()
    atac.var = pd.DataFrame(index=names)
    return md.MuData({"rna": mdata["rna"], "atac": atac})


def test_unreadable_peak_names(mdata):
    names = [f"peak_{i}" for i in range(300)]
    message = "300 of 300 peak names cannot be read.*'peak_0'.*'chr1:100-200'.*Rename the peaks"
    with pytest.raises(ValueError, match=message):
        setup(without_coordinates(mdata, names))
    names = ["chr1:20-10", *mdata["atac"].var_names[1:]]
    with pytest.raises(ValueError, match="1 of 300 peaks have impossible.*'chr1:20-10'"):
        setup(without_coordinates(mdata, names))


@pytest.mark.parametrize("modality", ["rna", "atac"])
def test_duplicated_names(mdata, modality):
    part = mdata[modality]
    twice = part.var_names[0]
    part.var_names = [twice, twice, *part.var_names[2:]]
    with pytest.raises(
        ValueError, match=rf"{modality}.* names must be unique.*{twice}.*make_unique"
    ):
        setup(mdata)


@pytest.mark.parametrize("modality", ["rna", "atac"])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (-1, r"negative.*minimum -1")],
)
def test_bad_values(mdata, modality, dense, value, message):
    x = mdata[modality].X
    x.data[3] = value
    mdata[modality].X = x.toarray() if dense else x
    with pytest.raises(ValueError, match=f"'{modality}'.*{message}"):
        setup(mdata)


def test_bad_values_in_a_layer(mdata):
    mdata["rna"].layers["scaled"] = mdata["rna"].X.toarray() - 1
    with pytest.raises(ValueError, match="negative values"):
        setup(mdata, rna_layer="scaled")
    setup(mdata)


def test_unpaired_without_labels(mdata):
    other = md.MuData({"rna": mdata["rna"][:30].copy(), "atac": mdata["atac"][30:].copy()})
    with pytest.raises(ValueError, match="share no cell: pass labels_key"):
        setup(other)


def test_metacells_need_pairs(mdata):
    other = md.MuData({"rna": mdata["rna"][:50].copy(), "atac": mdata["atac"][10:].copy()})
    setup(other)
    with pytest.raises(ValueError, match="n_neighbors"):
        lv.model.GRIDS(other).train(1, n_neighbors=3)


def test_genes_elsewhere(mdata):
    mdata["rna"].var["chrom"] = "chr99"
    setup(mdata)
    with pytest.raises(ValueError, match="share no chromosome.*'chr99'.*cis_window=None"):
        lv.model.GRIDS(mdata)
    mdata["rna"].var = mdata["rna"].var[[]]
    with pytest.raises(KeyError, match="no coordinates.*cis_window=None"):
        lv.model.GRIDS(mdata)
    lv.model.GRIDS(mdata, cis_window=None)


def test_unknown_cis_term(mdata):
    setup(mdata)
    with pytest.raises(ValueError, match="cis='quadratic' is unknown. Allowed: 'logistic', 'lin"):
        lv.model.GRIDS(mdata, cis="quadratic")


def test_not_set_up(mdata):
    with pytest.raises(ValueError, match="setup_mudata|set up"):
        lv.model.GRIDS(mdata)


def test_untrained_model(mdata):
    setup(mdata)
    model = lv.model.GRIDS(mdata)
    for call in (model.translate, model.get_latent_representation):
        with pytest.raises(RuntimeError, match="untrained model. Please train the model first"):
            call()


def test_minified_data(mdata):
    setup(mdata)
    mdata.uns["_scvi_adata_minify_type"] = "latent_posterior"
    with pytest.raises(
        NotImplementedError, match="GRIDS model currently does not support minified"
    ):
        lv.model.GRIDS(mdata)


def calls(model):
    return {
        "translate": model.translate,
        "get_latent_representation": model.get_latent_representation,
        "train": lambda: model.train(1),
    }


@pytest.mark.parametrize("call", ["translate", "get_latent_representation", "train"])
def test_peaks_renamed_since_training(model, call):
    atac = model.adata["atac"]
    atac.var_names = [*atac.var_names[1:], atac.var_names[0]]
    message = "'atac' differ from those the model was set up with.*300 given, 300 expected"
    with pytest.raises(ValueError, match=message):
        calls(model)[call]()


@pytest.mark.parametrize("call", ["translate", "get_latent_representation", "train"])
def test_peaks_dropped_since_training(model, call):
    model.adata.mod["atac"] = model.adata["atac"][:, :200].copy()
    with pytest.raises(ValueError, match="200 given, 300 expected.*train a new model"):
        calls(model)[call]()


def test_other_data_with_other_features(trained, simulate):
    fewer = trained.adata.copy()
    fewer.mod["rna"] = fewer["rna"][:, 1:].copy()
    message = "lack 1 of the 8 features of modality 'rna' that the model was set up with, such as 'gene_0001'"
    with pytest.raises(ValueError, match=message):
        trained.translate(fewer)
    only_rna = md.MuData({"rna": trained.adata["rna"].copy()})
    with pytest.raises(ValueError, match="Modality 'atac'.*is not in the MuData object"):
        trained.translate(only_rna)
    with pytest.raises(TypeError, match="Expected a MuData object, got AnnData"):
        trained.translate(AnnData(np.ones((2, 2))))


def test_loading_with_other_features(saved, simulate):
    with pytest.raises(ValueError, match="lack 300 of the 300 features of modality 'atac'"):
        lv.model.GRIDS.load(saved / "grids", adata=simulate(seed=1), accelerator="cpu")
    with pytest.raises(ValueError, match="lack 1 of the 8 features of modality 'rna'"):
        lv.model.GRIDS.load(saved / "grids", adata=simulate(n_genes=7), accelerator="cpu")


def test_unknown_batch_in_other_data(trained):
    other = trained.adata[:20].copy()
    for part in (other, other["rna"], other["atac"]):
        part.obs["batch"] = "batch_7"
    with pytest.raises(ValueError, match="batch_7"):
        trained.translate(other)


def test_unknown_names_in_translate(trained):
    with pytest.raises(ValueError, match="Gene 'gene_001' is unknown. Did you mean 'gene_0001'"):
        trained.translate(features=["gene_001"])
    with pytest.raises(ValueError, match="Peak 'gene_0001' is unknown"):
        trained.translate(source="rna", features=["gene_0001"])
    with pytest.raises(ValueError, match="'ATAC' is not a modality of GRIDS. Allowed: 'rna', 'at"):
        trained.translate(source="ATAC")
    with pytest.raises(ValueError, match="Allowed: 'rna', 'atac'"):
        trained.get_latent_representation(modality="protein")


def test_too_large_predictions(trained, monkeypatch):
    monkeypatch.setattr("lucidvi.model.grids._reading._MAX_DENSE", 1000)
    with pytest.raises(ValueError, match="400 x 300 dense values. Pass `features` or `indices`"):
        trained.translate(source="rna")
    assert trained.translate(source="rna", indices=[0, 1, 2]).shape == (3, 300)
