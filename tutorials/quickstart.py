"""From a multiome to the peak sets that switch genes off: simulated data with known answers.

Writes lucidvi-quickstart/simulated.h5mu and figures. Runs on two CPU cores in about a minute.
"""

import logging
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import scvi

import lucidvi as lv

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)  # no tips on loggers and accelerators
scvi.settings.seed = 0
out = Path("lucidvi-quickstart")
out.mkdir(exist_ok=True)

# 1. Data. For your own: mdata = mudata.read_h5mu("my_multiome.h5mu"), with the modalities "rna" (counts)
#    and "atac" (peaks named chr1:100-600) and the cell types in mdata.obs["cell_type"].
mdata = lv.datasets.redundant_enhancers()
truth = mdata.uns.get("truth")  # simulated data only: which peaks regulate which gene, and how
genes = list(mdata["rna"].var_names[:8])  # two genes of each logic; for your own data name your genes
print(f"{mdata.n_obs} cells, {mdata['rna'].n_vars} genes, {mdata['atac'].n_vars} peaks")

# 2. A model that predicts expression from open chromatin.
lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
model = lv.model.GRIDS(mdata)
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "`isinstance.treespec", module="lightning")  # lightning on a new PyTorch
    model.train()

# 3. For each gene, the 3 peaks whose joint masking lowers its predicted expression most, over all cells.
#    groupby="cell_type" would look for sets in each cell type instead.
lv.explain.subset_perturbation(model, genes, n_features=3)
result = mdata["atac"].uns["subset_perturbation"]

# 4. The table.
table = result["sets"].set_index("gene")
table["change_%"] = 100 * table["rel_delta"]
table["redundancy_%"] = 100 * table["redundancy"] / table["expression_before"]
columns = ["change_%", "redundancy_%", "cis_share", "p_value"]
if truth is not None:
    found = lv.metrics.planted_recovery(result["features"], truth).set_index("gene")
    table = table.join(found[["logic", "precision"]])
    columns = ["logic", "precision", *columns]
decimals = {"change_%": 0, "redundancy_%": 0, "precision": 2, "cis_share": 2, "p_value": 2}
print("\nEffect of masking each gene's set, on test cells:\n")
print(table[columns].round(decimals).to_string(na_rep="-", float_format="{:g}".format))

# 5. Figures and file.
figure, axes = plt.subplots(1, 2, figsize=(17, 4.6), width_ratios=(1, 1.1), layout="constrained")
lv.pl.subset_effects(mdata, genes[0], ax=axes[0])
lv.pl.locus(mdata, genes[0], window=100_000, ax=axes[1])
figure.savefig(out / "effects_and_locus.png", dpi=100)
lv.pl.subset_summary(mdata, sort=False).figure.savefig(out / "summary.png", dpi=150)
lv.pl.subset_before_after(mdata, genes[:4]).figure.savefig(out / "before_after.png", dpi=150)
mdata["atac"].obsm["X_grids"] = model.get_latent_representation()
mdata.write_h5mu(out / "simulated.h5mu")

print(
    "\nHow to read it: masking the set changes predicted expression by change_%; redundancy_% of it (above 0)\n"
    "shows only when the peaks are masked together, because they stand in for each other. Trust a set whose\n"
    "cis_share is near 1 and whose p_value, from the measured expression of the test cells, is small.\n"
)
for path in sorted(out.iterdir()):
    print(f"wrote {path}")
