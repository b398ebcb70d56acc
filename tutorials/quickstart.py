"""From a multiome to the peak sets that switch genes off: simulated data with known answers.

Writes lucidvi-quickstart/simulated.h5mu and figures. Runs on two CPU cores in about a minute.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import scvi

import lucidvi as lv

scvi.settings.seed = 0
out = Path("lucidvi-quickstart")
out.mkdir(exist_ok=True)

# 1. Data. To use your own: mdata = mudata.read_h5mu("my_multiome.h5mu"). It needs counts in the
#    modality "rna", peaks with names such as chr1:100-600 in the modality "atac", and cell types in
#    mdata.obs["cell_type"].
mdata = lv.datasets.redundant_enhancers()
truth = mdata.uns.get("truth")  # simulated data only: which peaks regulate which gene, and how
genes = list(mdata["rna"].var_names[:8])  # two of each logic; name your own genes here
print(f"{mdata.n_obs} cells, {mdata['rna'].n_vars} genes, {mdata['atac'].n_vars} peaks")

# 2. A model that predicts expression from open chromatin.
lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
model = lv.model.GRIDS(mdata)
model.train()

# 3. For each gene, search for the 3 peaks whose joint masking lowers its predicted expression most.
#    All cells form one group. groupby="cell_type" would search for sets in each cell type instead.
lv.explain.subset_perturbation(model, genes, n_features=3)
features = lv.get.subset_features(mdata)  # the peaks of each set, with coordinates

# 4. A table of the sets.
table = lv.get.subset_sets(mdata).set_index("gene")
table["change_%"] = 100 * table["rel_delta"]
table["redundancy_%"] = 100 * table["redundancy"] / table["expression_before"]
columns = ["change_%", "redundancy_%", "cis_share", "p_value"]
if truth is not None:
    found = lv.metrics.planted_recovery(features, truth).set_index("gene")
    table = table.join(found[["logic", "precision"]])
    columns = ["logic", "precision", *columns]
decimals = {"change_%": 0, "redundancy_%": 0, "precision": 2, "cis_share": 2, "p_value": 2}
print("\nEffect of masking each gene's set, on test cells:\n")
print(table[columns].round(decimals).to_string(na_rep="-", float_format="{:zg}".format))

# 5. Figures and file.
figure, axes = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained")
lv.pl.subset_effects(mdata, genes[0], ax=axes[0], show=False)
axes[0].legend(loc="lower left", frameon=False)
lv.pl.locus(mdata, genes[0], window=60_000, ax=axes[1], show=False)
axes[1].legend(loc="center right", frameon=False)
figure.savefig(out / "effects_and_locus.png", dpi=125)
summary = lv.pl.subset_summary(mdata, sort=False, show=False)
summary.figure.savefig(out / "summary.png", dpi=150)
before_after = lv.pl.subset_before_after(mdata, genes[:4], show=False)
before_after.figure.savefig(out / "before_after.png", dpi=150)
mdata["atac"].obsm["X_grids"] = model.get_latent_representation()
mdata.write_h5mu(out / "simulated.h5mu")

print(
    "\nHow to read it: trust a set whose cis_share is near 1 and whose p_value, taken from\n"
    "the measured expression of test cells, is small; where redundancy_% is above 0, its\n"
    "peaks stand in for each other, and only masking them together shows the whole effect.\n"
)
for path in sorted(out.iterdir()):
    print(f"wrote {path}")
