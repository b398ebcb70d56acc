"""Finding a stored result, and saying what is wrong when it is not there."""

import subprocess
import sys

import anndata as ad
import mudata as md
import numpy as np
import pytest
from pandas.testing import assert_frame_equal

import lucidvi as lv

GROUPS = ["CD4/CD8 T", "B 'memory' \"x\"", "Füße βγ", ""]  # as in conftest.py
READERS = {
    "subset_sets": ("subset_perturbation", "subset_perturbation"),
    "subset_donors": ("subset_perturbation", "subset_perturbation"),
    "subset_features": ("subset_perturbation", "subset_perturbation"),
    "links": ("links", "links"),
    "set_interactions": ("set_interactions", "set_interactions"),
    "cross_effect": ("cross_effect", "cross_effect"),
    "gene_panel": ("gene_panel", "gene_panel"),
    "panels": ("gene_panel", "gene_panel"),
    "joint_panel": ("joint_panel", "joint_panel"),
    "loadings": ("loadings", "loadings"),
    "attributions": ("attributions", "attributions"),
    "faithfulness": ("faithfulness", "faithfulness"),
    "faithfulness_curves": ("faithfulness", "faithfulness"),
    "feature_graph": ("sivae_neighbors", "feature_graph"),
}


def test_every_reader_is_here():
    assert set(READERS) == set(lv.get.__all__)


@pytest.mark.parametrize("name", READERS)
def test_modality_is_found(mdata, name):
    read = getattr(lv.get, name)
    assert read(mdata).equals(read(mdata["rna"]))
    assert read(mdata, modality="rna").equals(read(mdata["rna"]))


@pytest.mark.parametrize("name", READERS)
def test_unknown_key(adata, name):
    read, (key, function) = getattr(lv.get, name), READERS[name]
    with pytest.raises(KeyError, match=f"Did you mean '{key}'.*lucidvi.explain.{function}"):
        read(adata, key[:-1] + "z")
    with pytest.raises(KeyError, match=f"none under another name.*lucidvi.explain.{function}"):
        read(ad.AnnData(np.ones((2, 2), np.float32)))


@pytest.mark.parametrize("name", READERS)
def test_wrong_modality_and_type(mdata, name):
    read = getattr(lv.get, name)
    with pytest.raises(ValueError, match="Modality 'rma' is unknown. Did you mean 'rna'"):
        read(mdata, modality="rma")
    with pytest.raises(KeyError, match=r"mdata\['protein'\]"):
        read(mdata, modality="protein")
    with pytest.raises(ValueError, match="modality='rna'.*AnnData"):
        read(mdata["rna"], modality="rna")
    with pytest.raises(TypeError, match="AnnData or MuData, not dict"):
        read({})


def test_several_modalities_hold_the_key(mdata):
    mdata["protein"].varm["loadings"] = np.ones((2, 1))
    with pytest.raises(ValueError, match=r"'protein', 'rna'.*modality="):
        lv.get.loadings(mdata)
    assert len(lv.get.loadings(mdata, modality="protein")) == 2


def test_another_result_under_the_key(adata):
    with pytest.raises(KeyError, match="not a result of lucidvi.explain.gene_panel"):
        lv.get.gene_panel(adata, "subset_perturbation")


def test_no_sets(adata):
    entry = adata.uns["subset_perturbation"]
    entry["sets"] = entry["sets"].iloc[:0]
    with pytest.raises(ValueError, match="no sets"):
        lv.get.subset_sets(adata)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("subset_sets", {"target": "gene on/1"}, "Target 'gene on/1' is unknown. Did you mean"),
        ("subset_sets", {"group": "Fuße βγ"}, "Group 'Fuße βγ' is unknown. Did you mean 'Füße βγ'"),
        ("gene_panel", {"group": ["CD4 T"]}, "Group 'CD4 T' is unknown. Did you mean 'CD4/CD8 T'"),
        ("attributions", {"target": "T1"}, "Target 'T1' is unknown"),
        ("attributions", {"group": "no"}, "Group 'no' is unknown"),
        ("faithfulness", {"group": "no"}, "Group 'no' is unknown"),
        ("faithfulness", {"method": "lime"}, "Method 'lime' is unknown"),
        ("feature_graph", {"feature": "plan"}, "Feature 'plan' is unknown. Did you mean 'plain'"),
    ],
)
def test_unknown_names(adata, name, given, message):
    with pytest.raises(ValueError, match=message):
        getattr(lv.get, name)(adata, **given)


def test_pair_that_was_not_explained(adata):
    sets = adata.uns["subset_perturbation"]["sets"]
    adata.uns["subset_perturbation"]["sets"] = sets.iloc[:-1]
    with pytest.raises(ValueError, match="Group '' is unknown for the target 'gene '"):
        lv.get.subset_sets(adata, target="gene ", group=GROUPS[3])


def test_light_import():
    code = (
        "import sys, lucidvi.get, lucidvi.pl, lucidvi.metrics;"
        "sys.exit(bool({'torch', 'scvi', 'scanpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.filterwarnings("ignore:This setting will be removed:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:zarr v3 will become the only option:DeprecationWarning")
@pytest.mark.parametrize("version", [2, 3])
def test_zarr_keeps_every_result(mdata_in_memory, version, tmp_path):
    with ad.settings.override(zarr_write_format=version):
        mdata_in_memory.write_zarr(tmp_path / "made.zarr")
    again = md.read_zarr(tmp_path / "made.zarr")
    for name in READERS:
        read = getattr(lv.get, name)
        assert_frame_equal(read(again), read(mdata_in_memory), check_dtype=False, check_categorical=False)  # fmt: skip
