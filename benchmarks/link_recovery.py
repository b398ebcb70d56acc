"""Does ``lv.metrics.link_recovery`` give the AUPRC that was published, from the published pairs and scores?

Claims: within .005 of ABC .602, distance .388, closest enhancer .176 and activity .219 on the 3,854 pairs in K562 of Nasser et al.
2021, and of distance .438 and .320 on the training and held-out pairs of the ENCODE benchmark. Run with
``python benchmarks/link_recovery.py``.
"""

import numpy as np
import pandas as pd
from _cortex import data_file
from _report import finish

import lucidvi as lv

ABC = {
    "chrPerturbationTarget": "chrom", "startPerturbationTarget": "start", "endPerturbationTarget": "end", "GeneSymbol": "gene",
    "Regulated": "regulated", "ABC.ABC.Score": "ABC", "ABC.distance": "distance", "ABC.activity_base": "activity",
    "closestEnhancer.EachEnhRegulatesClosestGene": "closest enhancer",
}  # fmt: skip
PUBLISHED = {
    "ABC": 0.602, "-distance": 0.388, "closest enhancer": 0.176, "activity": 0.219, "training, -distance": 0.438,
    "held_out, -distance": 0.320,
}  # fmt: skip
FILES = {"training": "training_K562", "held_out": "heldout_5_cell_types"}


def main() -> None:
    """Score all tables and compare."""
    table = pd.read_csv(data_file("links/ABC2021_K562_expt.pred.tsv.gz"), sep="\t")
    table = table[table["IncludeInModel"]].rename(columns=ABC)
    table["end"] = np.maximum(table["end"], table["start"] + 1)  # two insertions have no length
    truth = table[["gene", "chrom", "start", "end", "regulated", "distance"]]
    scores = ["ABC", "closest enhancer", "activity"]
    found = lv.metrics.link_recovery(table, truth, scores=scores)
    print(found.round(3).to_string())
    auprc = found[found["bin"] == "all"].set_index("score")["auprc"].to_dict()
    for part, name in FILES.items():
        path = data_file(f"links/EPCrisprBenchmark_combined_data.{name}.GRCh38.tsv.gz")
        pairs = lv.datasets.crispri_links(path=path)
        found = lv.metrics.link_recovery(pairs.assign(score=0.0), pairs, scores="score")
        print(f"\n{part}\n", found.round(3).to_string())
        auprc[f"{part}, -distance"] = found[found["bin"] == "all"].set_index("score").loc["-distance", "auprc"]  # fmt: skip
    goals = {f"{k}: distance from the published AUPRC": (round(abs(auprc[k] - v), 4), "<=", 0.005) for k, v in PUBLISHED.items()}  # fmt: skip
    result = {"benchmark": "link_recovery", "AUPRC": {k: round(float(auprc[k]), 4) for k in PUBLISHED}}  # fmt: skip
    finish(result, goals, save=True)


if __name__ == "__main__":
    main()
