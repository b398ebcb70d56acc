"""What the leaderboard shows of each benchmark: one column for each question, data set and criterion."""

from collections.abc import Callable
from dataclasses import dataclass

PEAKS = "Which peaks regulate a gene?"
PANEL = "Which genes tell a group apart?"
RATE = "Which genes does a label need, with an error rate?"
READ = "Which genes does a model read?"
SPACE = "Does a latent space show a gene set?"
NETWORK = "Which genes belong together?"
QUESTIONS = (PEAKS, PANEL, RATE, READ, SPACE, NETWORK)
CRITERIA = (
    "experiment", "real cells", "truth in simulation", "false discoveries", "faithfulness", "stability", "cost",
)  # fmt: skip

Score = tuple[float, float | None]


@dataclass(frozen=True)
class Column:
    """Methods on one data set by one measure.

    Parameters
    ----------
    question
        One of ``QUESTIONS``.
    criterion
        One of ``CRITERIA``.
    data
        Data set, in a few words.
    measure
        What the numbers are.
    better
        ``"high"`` or ``"low"``.
    script
        Command that measures it, in ``benchmarks/``.
    scores
        Mean and standard error (None for a single run) of each method.
    """

    question: str
    criterion: str
    data: str
    measure: str
    better: str
    script: str
    scores: dict[str, Score]


def mean_and_error(rows: list[dict], key: str, what: str = "") -> dict[str, Score]:
    """Scores of the rows of a table, by the method that ``key`` names."""
    what = f"{what} " if what else ""
    return {row[key]: score(row[f"{what}mean"], row.get(f"{what}sem")) for row in rows if not missing(row[f"{what}mean"])}  # fmt: skip


def score(mean: float, error: float | None = None) -> Score:
    """Mean and error, without the NaN that a single run has for an error."""
    return mean, None if missing(error) else error


def missing(value: float | None) -> bool:
    """None and NaN."""
    return value is None or value != value


def named(scores: dict[str, Score], names: dict[str, str]) -> dict[str, Score]:
    """Scores of the methods in ``names``, under the names that readers see."""
    return {shown: scores[name] for name, shown in names.items() if name in scores}


DECOYS = {
    "GRIDS": "GRIDS, set", "GRIDS links by effect": "GRIDS, link", "GRIDS without cis": "GRIDS without cis term",
    "saliency": "saliency of GRIDS",
    "input x gradient": "input × gradient of GRIDS", "most open": "openness", "nearest": "distance", "Pearson": "correlation",
    "metacell correlation": "metacell correlation", "partial correlation": "partial correlation", "lasso": "lasso",
}  # fmt: skip
BOUND = {
    "effect": "GRIDS, link", "saliency": "saliency of GRIDS", "input x gradient": "input × gradient of GRIDS", "openness": "openness",
    "-distance": "distance", "correlation": "correlation", "metacell correlation": "metacell correlation",
    "coefficient": "partial correlation",
}  # fmt: skip
MASKED = {
    "GRIDS": "GRIDS, set", "Saliency": "saliency of GRIDS", "SmoothGrad": "SmoothGrad of GRIDS", "FIMAP mask": "FIMAP mask of GRIDS",
    "Input x gradient": "input × gradient of GRIDS", "Random, matched": "random, as open", "Random": "random",
}  # fmt: skip


def grids_decoys(result: dict) -> list[Column]:
    """Share of regulators by the logic that joins them."""
    logics = {"redundant": "any of three suffices", "additive": "effects add up", "synergistic": "two of three needed"}  # fmt: skip
    precision, error = result["precision at 3"], result["standard error over seeds"]
    return [
        Column(
            PEAKS, "truth in simulation", f"decoy enhancers, {said}", "share of regulators among three named peaks", "high",
            "grids_decoys.py --seeds 0 1 2", named({m: score(precision[m][logic], error[m][logic]) for m in precision}, DECOYS),
        )
        for logic, said in logics.items()
    ]  # fmt: skip


def grids_a549(result: dict) -> list[Column]:
    """Peaks that a transcription factor binds."""
    auroc, error = result["AUROC"], result["standard error over genes"]
    found = {m: score(auroc[m]["induced"], error[m]["induced"]) for m in auroc}
    return [Column(PEAKS, "experiment", "A549, ChIP-seq of the receptor", "AUROC of bound peaks near induced genes", "high",
                   "grids_a549.py --links-only", named(found, BOUND))]  # fmt: skip


def grids_cortex(result: dict) -> list[Column]:
    """What sets of ten do to the prediction in cells that were not searched, and how near they are to the gene."""
    fall = {m: score(-v) for m, v in result["methods 10"].items() if m in MASKED}
    return [Column(PEAKS, "faithfulness", "mouse cortex, SNARE-seq", "fall of the predicted expression in test cells without ten peaks", "high",
                   "grids_cortex.py --sizes 10", named(fall, MASKED))]  # fmt: skip


RANKINGS = {
    "panel": "gene_panel", "panel, reference='rest'": "gene_panel, reference='rest'", "t-test": "t-test",
    "t-test (absolute)": "t-test, absolute", "wilcoxon": "Wilcoxon", "wilcoxon (absolute)": "Wilcoxon, absolute",
    "logreg": "logistic regression", "logreg (absolute)": "logistic regression, absolute", "lasso": "L1 logistic regression",
    "discriminant": "linear discriminant", "JSD": "JSD", "SmoothGrad": "SmoothGrad of ACE", "GradientShap": "GradientShap of ACE", "cosg": "COSG",
}  # fmt: skip


def panel_truth(result: dict) -> list[Column]:
    """Panels beside tests and classifiers."""
    out = []
    for data in ("clean", "complex"):
        rows = [row for row in result.get("simulation", []) if row["data"] == data]
        out.append(Column(PANEL, "truth in simulation", f"100 genes follow 20 causal ones, {data}", "share of causal genes among the first ten", "high",
                          "panel_truth.py simulation --seeds 0 1 2", named(mean_and_error(rows, "method"), RANKINGS)))  # fmt: skip
    rows = [row for row in result.get("pbmc", []) if row["size"] == 18]
    out.append(Column(PANEL, "real cells", "PBMC3k, 18 genes", "AUROC of a support vector machine", "high",
                      "panel_truth.py pbmc --seeds 0 1 2", named(mean_and_error(rows, "method", "auroc"), RANKINGS)))  # fmt: skip
    rows = result.get("halves", [])
    out.append(Column(PANEL, "stability", "PBMC3k, halves of the cells", "agreement of the first 20 genes beyond chance", "high",
                      "panel_truth.py halves --seeds 0 1 2", named(mean_and_error(rows, "method"), RANKINGS)))  # fmt: skip
    seconds = {"panel": "gene_panel", "Wilcoxon": "Wilcoxon", "t-test": "t-test"}
    found = {name: score(value) for name, value in result.get("seconds", {}).items()}
    out.append(Column(PANEL, "cost", "PBMC3k, all types", "processor seconds, training not counted", "low",
                      "panel_truth.py cost", named(found, seconds)))  # fmt: skip
    return out


COUNTED = {
    "panel, by q-value": "panel_confidence, q-values", "panel": "gene_panel", "vivs": "VIVS", "drvi": "DRVI", "scvi (absolute)": "SCVI, differential expression",
    "wilcoxon (absolute)": "Wilcoxon, absolute", "t-test (absolute)": "t-test, absolute", "logreg (absolute)": "logistic regression, absolute",
    "lasso": "L1 logistic regression", "discriminant": "linear discriminant", "cosg": "COSG", "structboost": "structboost",
}  # fmt: skip


def panel_counts(result: dict) -> list[Column]:
    """Genes that decide a label, in lists with an error rate."""
    rows = [row for row in result["table"] if row["data"] == "correlated"]
    columns = (
        ("truth in simulation", "among the first", "share of deciding genes among the first 15", "high"),
        ("false discoveries", "false", "share of false discoveries at a level of 10 %", "low"),
        ("truth in simulation", "power", "share of deciding genes found at a level of 10 %", "high"),
    )  # fmt: skip
    return [
        Column(RATE, criterion, "counts, 60 genes follow 15 deciding ones", measure, better, "panel_counts.py correlated --seeds 0 1 2",
               named(mean_and_error(rows, "method", what), COUNTED))
        for criterion, what, measure, better in columns
    ]  # fmt: skip


TESTED = {
    "knockoffs, median of draws": "panel_confidence, q-values", "knockoffs, one draw": "knockoffs, one draw", "knockoffs, e-values": "knockoffs, e-values",
    "holdout test": "holdout test", "Wilcoxon": "Wilcoxon, absolute",
}  # fmt: skip


def knockoff_fdr(result: dict) -> list[Column]:
    """Error rates over 100 simulations."""
    out = []
    for kind, said in (("gaussian", "normal values"), ("counts", "negative binomial counts")):
        rows = result.get(kind, {})
        false = {m: score(row["fdr 10%"], row["se 10%"]) for m, row in rows.items()}
        power = {m: score(row["power 10%"]) for m, row in rows.items()}
        data = f"300 genes, 30 decide, {said}"
        out.append(Column(RATE, "false discoveries", data, "share of false discoveries at a level of 10 %", "low",
                          "knockoff_fdr.py", named(false, TESTED)))  # fmt: skip
        out.append(Column(RATE, "truth in simulation", data, "share of deciding genes found at a level of 10 %", "high",
                          "knockoff_fdr.py", named(power, TESTED)))  # fmt: skip
    return out


ATTRIBUTED = {
    "expected_gradients": "expected gradients", "integrated_gradients": "integrated gradients", "input_x_gradient": "input × gradient",
    "deep_lift": "DeepLIFT", "feature_ablation": "ablation", "saliency": "saliency", "smoothgrad": "SmoothGrad", "LIME": "LIME",
    "KernelSHAP": "KernelSHAP", "CXPlain": "CXPlain", "FIMAP": "FIMAP", "SAGE": "SAGE", "GCE": "GCE", "gene relevance": "gene relevance",
    "gene panel": "gene_panel", "Wilcoxon": "Wilcoxon, absolute", "random, matched": "random, as expressed",
}  # fmt: skip


def known_truth(result: dict) -> list[Column]:
    """Features that decide, among those that follow."""
    said = {"SCANVI, of one gene": "SCANVI, followers of one gene", "SCANVI, of all": "SCANVI, followers of all genes"}  # fmt: skip
    out = []
    for simulation, data in said.items():
        if simulation in result["precision"]:
            mean, error = result["precision"][simulation], result["standard_error"][simulation]
            out.append(Column(READ, "truth in simulation", data, "share of deciding genes among the first, as many as there are", "high",
                              "known_truth.py scanvi", named({m: score(mean[m], error[m]) for m in mean}, ATTRIBUTED)))  # fmt: skip
    return out


LOWERED = {
    "ours, integrated gradients": "integrated gradients", "ours, expected gradients": "expected gradients", "theirs": "scvi-tools' integrated gradients",
    "ours": "expected gradients", "most expressed": "most expressed genes", "Wilcoxon": "Wilcoxon", "random": "random",
}  # fmt: skip


def scvi_tools_own(result: dict) -> list[Column]:
    """The fall of a label's probability without the first genes."""
    start, found = "fall of the probability without 20 genes, ", {}
    for key, value in result.get("scanvi", {}).items():
        if key.startswith(start):
            found[key.removeprefix(start)] = score(value["mean"], value["standard error"])
    return [Column(READ, "faithfulness", "SCANVI, Kang blood cells", "fall of the label's probability without 20 genes", "high",
                   "scvi_tools_own.py scanvi", named(found, LOWERED))]  # fmt: skip


def explain_cost(result: dict) -> list[Column]:
    """Seconds of the same attributions, ours and captum's."""
    rows = {row["index"]: row for row in result["table"]}
    found = {}
    for method, shown in (("integrated gradients", "integrated gradients"), ("DeepLIFT", "DeepLIFT"), ("saliency", "saliency"), ("ablation", "ablation")):  # fmt: skip
        if row := rows.get(f"{method}, captum"):
            found[shown] = score(row["lucidvi"])
            found[f"captum's {shown}"] = score(row["peer"])
    return [Column(READ, "cost", "SCVI, 500 cells, ten dimensions", "processor seconds, training not counted", "low",
                   "explain_cost.py", found)]  # fmt: skip


SPACES = {
    "SCARE, r=1": "SCARE", "SCARE, r=4": "SCARE, share=4", "SCARE, block": "SCARE, dimensions of the set", "PCA, r=1": "set_space",
    "PCA, block": "set_space, dimensions of the set", "SCVI": "SCVI", "SCVI of the set, r=1": "SCVI of the set, beside SCVI",
    "score_genes, r=1": "score of the set, beside SCVI", "score_genes, alone": "score of the set", "likelihood": "set four times in the likelihood",
    "attribution loss": "the paper's attribution loss", "random set, SCARE, r=1": "SCARE with a random set",
}  # fmt: skip


def scare_set_space(result: dict) -> list[Column]:
    """Conditions told apart, and types kept."""
    of = lambda kind, what: named(mean_and_error([r for r in result["table"] if r["data"] == kind], "space", what), SPACES)  # fmt: skip
    neighbours = "accuracy of {} among 15 neighbours"
    rows = (
        ("experiment", "a549", "condition", "A549, times after dexamethasone", neighbours.format("the time")),
        ("truth in simulation", "planted", "condition", "blood cells, planted conditions", neighbours.format("the condition")),
        ("real cells", "planted", "types", "blood cells, planted conditions", neighbours.format("the cell type")),
        ("faithfulness", "a549", "FSSF", "A549, times after dexamethasone", "FSSF: do the genes of the set decide a cell's place?"),
    )  # fmt: skip
    return [Column(SPACE, criterion, data, measure, "high", f"scare_set_space.py {kind} --rivals", of(kind, what))
            for criterion, kind, what, data, measure in rows]  # fmt: skip


EDGES = {
    "siVAE, correlation": "siVAE, decoded genes", "siVAE, product of loadings": "siVAE, loadings", "siVAE, Euclidean (the paper's)": "siVAE, distance of loadings (paper)",
    "siVAE, MRNET of a sample (siVAE-GRN)": "siVAE-GRN (paper)", "Pearson": "correlation", "Pearson of metacells": "metacell correlation",
    "CLR": "CLR", "MRNET": "MRNET",
}  # fmt: skip
NEIGHBOURS = {
    "siVAE": "siVAE, loadings", "siVAE, Euclidean": "siVAE, distance of loadings (paper)", "correlation": "correlation", "clr": "CLR",
    "mrnet": "MRNET", "random": "random",
}  # fmt: skip


def sivae_counts(result: dict) -> list[Column]:
    """Pairs of genes that truly correlate."""
    out = []
    for kind, said in (("hub", "communities around hubs"), ("factor", "genes on eight factors")):
        for depth in (400, 150):
            rows = [row for row in result["table"] if row["data"] == f"{kind}, {depth}"]
            out.append(Column(NETWORK, "truth in simulation", f"{said}, {depth} counts a cell", "area under the precision-recall curve of pairs", "high",
                              "sivae_counts.py", named(mean_and_error(rows, "method", "edges"), EDGES)))  # fmt: skip
    return out


def sivae_networks(result: dict) -> list[Column]:
    """Neighbours that explain a gene."""
    found = {m: score(v) for m, v in result["explained"].items()}
    return [Column(NETWORK, "real cells", "Kang blood cells", "share of a gene's variance that 20 neighbours explain, held-out cells", "high",
                   "sivae_networks.py", named(found, NEIGHBOURS))]  # fmt: skip


READERS: dict[str, Callable[[dict], list[Column]]] = {
    reader.__name__: reader
    for reader in (
        grids_a549, grids_decoys, grids_cortex, panel_truth, panel_counts, knockoff_fdr, known_truth, scvi_tools_own, explain_cost,
        scare_set_space, sivae_counts, sivae_networks,
    )
}  # fmt: skip
OURS = {
    "GRIDS, set", "GRIDS, link", "gene_panel", "gene_panel, reference='rest'", "panel_confidence, q-values", "expected gradients",
    "integrated gradients", "input × gradient", "DeepLIFT", "ablation", "saliency", "SmoothGrad", "SCARE", "SCARE, share=4",
    "SCARE, dimensions of the set", "set_space", "set_space, dimensions of the set", "siVAE, decoded genes", "siVAE, loadings",
}  # fmt: skip
