"""The prior of the cis term of GRIDS, and its links."""

import numpy as np
import pandas as pd
import pytest
import scvi
import torch

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def model_of(mdata=None, **options):
    if mdata is None:
        mdata = lv.datasets.redundant_enhancers(n_cells=400, n_genes=10, n_peaks=800, seed=1)
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    scvi.settings.seed = 0
    return lv.model.GRIDS(mdata, **options)


@pytest.fixture(scope="module")
def trained():
    model = model_of()
    model.train(30, **QUIET)
    return model


@pytest.mark.parametrize("cis", ["logistic", "linear"])
def test_effects_are_those_of_the_translation(trained, cis):
    model = trained
    if cis == "linear":
        model = model_of(cis="linear")
        model.train(3, **QUIET)
    rows = np.arange(0, 400, 3)
    links = model.get_cis_links(indices=rows)
    for link in links.sample(3, random_state=0).itertuples():
        closed = model.adata.copy()
        x = closed["atac"].X.tolil()
        x[:, closed["atac"].var_names.get_loc(link.peak)] = 0
        closed["atac"].X = x.tocsr()
        other = model.get_cis_links(closed, indices=rows, genes=[link.gene]).set_index("peak")
        assert other.loc[link.peak, "openness"] == 0 == other.loc[link.peak, "effect"]
        # the latent path sees the closed peak, too: compare what the cis term alone adds
        g = model.adata["rna"].var_names.get_loc(link.gene)
        sums = [
            of @ _weights(model)[:, g]
            for of in (model.adata["atac"].X[rows] > 0, closed["atac"].X[rows] > 0)
        ]
        if cis == "linear":
            expected = (sums[0] - sums[1]).mean()
        else:
            term = model.module.cis
            before, after = (
                term.from_sums(torch.tensor(s, dtype=torch.float32), g).detach() for s in sums
            )
            expected = float((before - after).mean())
        assert link.effect == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert (links.groupby("gene")["effect"].diff().dropna() <= 1e-12).all()


def _weights(model):
    cis, shape = model.module.cis, (model.adata["atac"].n_vars, model.adata["rna"].n_vars)
    out = np.zeros(shape)
    out[cis.peak.numpy(), cis.gene.numpy()] = cis.weights().detach().numpy()
    return out


def test_links_of_some_genes(trained):
    links = trained.get_cis_links(genes=["gene_0003", "gene_0001"])
    assert set(links["gene"]) == {"gene_0003", "gene_0001"}
    assert links["distance"].abs().max() <= 100_000 and (links["effect"] >= 0).all()
    with pytest.raises(ValueError, match="gene_x"):
        trained.get_cis_links(genes=["gene_x"])


def test_planted_links_come_first(trained):
    """The prior, learned from training cells, and the trained weights find regulators better than chance."""
    truth = trained.adata.uns["truth"].query("logic != 'none'")
    links = trained.get_cis_links(genes=list(truth["gene"].unique()))
    true = links.set_index(["gene", "peak"]).index.isin(truth.set_index(["gene", "peak"]).index)
    for score in ("prior", "effect"):
        top = links[score].groupby(links["gene"]).rank(ascending=False) <= 3
        assert true[top].mean() > 0.6


def test_prior_is_kept_with_the_model(trained, tmp_path):
    trained.save(str(tmp_path / "m"), save_anndata=True)
    again = lv.model.GRIDS.load(str(tmp_path / "m"))
    pd.testing.assert_frame_equal(again.get_cis_links(), trained.get_cis_links())
    np.testing.assert_array_equal(again.module.to_counts, trained.module.to_counts)


def test_the_users_links():
    model = model_of()
    genes, peaks = (model.adata[m].var_names for m in ("rna", "atac"))
    cis = model.module.cis
    table = pd.DataFrame(
        {"gene": genes[cis.gene.numpy()[::5]], "peak": peaks[cis.peak.numpy()[::5]]}
    )
    table["score"] = np.arange(1.0, len(table) + 1)
    model.train(1, cis_prior=table.sample(frac=1, random_state=0), **QUIET)
    links = model.get_cis_links().set_index(["gene", "peak"])["prior"]
    given = links.loc[list(zip(table["gene"], table["peak"], strict=True))].to_numpy()
    assert np.corrcoef(given, table["score"])[0, 1] > 0.99 and (links > 0).sum() == len(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="score"), r"lacks the columns \['score'\]"),
        (lambda t: t.assign(gene="nobody"), "nobody"),
        (lambda t: t.assign(peak="chr1:1-2"), "chr1:1-2"),
        (lambda t: t.assign(score=-1.0), "no numbers of 0 or more"),
        (lambda t: t.assign(score=np.nan), "no numbers of 0 or more"),
        (lambda t: pd.concat([t, t]), "more than once"),
        (lambda t: "weights", "'weights' is unknown"),
    ],
)
def test_a_prior_that_cannot_be_used_is_named_before_training(change, message):
    model = model_of()
    genes, peaks = (model.adata[m].var_names for m in ("rna", "atac"))
    cis = model.module.cis
    table = pd.DataFrame({"gene": genes[cis.gene.numpy()[:3]], "peak": peaks[cis.peak.numpy()[:3]], "score": 1.0})  # fmt: skip
    with pytest.raises(ValueError, match=message):
        model.train(1, cis_prior=change(table), **QUIET)
    assert not model.is_trained


def test_links_outside_the_window():
    model = model_of()
    genes, peaks = (model.adata[m].var_names for m in ("rna", "atac"))
    near = set(model.module.cis.peak[model.module.cis.gene == 0].tolist())
    far = [p for p in range(len(peaks)) if p not in near][:2]
    inside = sorted(near)[0]
    table = pd.DataFrame({"gene": genes[0], "peak": peaks[[*far, inside]], "score": 1.0})
    with pytest.warns(UserWarning, match="2 of the 3 links of cis_prior lie outside"):
        model.train(1, cis_prior=table, **QUIET)
    with pytest.warns(UserWarning, match="outside"), pytest.raises(ValueError, match="No link"):
        model_of().train(1, cis_prior=table.iloc[:2], **QUIET)


def test_no_prior_where_nothing_is_paired_or_wanted():
    mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    model = model_of(mdata)
    model.train(1, paired=False, **QUIET)
    assert not model.module.cis.prior.any()
    model = model_of(mdata)
    model.train(1, cis_prior=None, **QUIET)
    assert not model.module.cis.prior.any()
    model = model_of(mdata, cis_window=None)
    model.train(1, **QUIET)
    with pytest.raises(ValueError, match="no cis term"):
        model.get_cis_links()


def test_counts_are_right_on_average_and_bounded(trained):
    """What is reported is the mean of counts, not the exponential of mean logarithms."""
    rna, cells = trained.adata["rna"], trained.validation_indices
    lv.explain.subset_perturbation(
        trained, list(rna.var_names), n_features=2, n_null=0, progress=False
    )
    sets = trained.adata["atac"].uns["subset_perturbation"]["sets"]
    ratio = sets["expression_before"] / sets["expression_measured"]
    assert ratio.between(0.6, 1.6).all() and len(cells)
    counts = rna.X.toarray()
    most = (counts / counts.sum(1, keepdims=True) * 1e4).max(0)
    before = (
        trained.adata["atac"].uns["subset_perturbation"]["cells"].groupby("gene")["before"].max()
    )
    size, power, ceiling = trained.module.to_counts.numpy()
    limit = pd.Series(size * np.expm1(power * ceiling), rna.var_names)
    assert (before <= limit[before.index] + 1e-3).all() and (ceiling <= np.log1p(most) + 1e-4).all()
