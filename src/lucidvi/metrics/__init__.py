"""How good an explanation or a prediction is: arrays and tables in, numbers or tables out."""

from lucidvi.metrics._attribution_agreement import attribution_agreement
from lucidvi.metrics._attribution_share import attribution_share
from lucidvi.metrics._attribution_stability import attribution_stability
from lucidvi.metrics._bootstrap_means import bootstrap_means
from lucidvi.metrics._coexpression import coexpression
from lucidvi.metrics._completeness_gap import completeness_gap
from lucidvi.metrics._curve_area import curve_area
from lucidvi.metrics._deletion_curve import deletion_curve
from lucidvi.metrics._expression_change import expression_change
from lucidvi.metrics._fssf import fssf
from lucidvi.metrics._hit_ratio import hit_ratio
from lucidvi.metrics._insertion_curve import insertion_curve
from lucidvi.metrics._jaccard_curve import jaccard_curve
from lucidvi.metrics._knn_accuracy import knn_accuracy
from lucidvi.metrics._neighborhood_overlap import neighborhood_overlap
from lucidvi.metrics._neighborhood_variance import neighborhood_variance
from lucidvi.metrics._panel_auroc import panel_auroc
from lucidvi.metrics._panel_overlap import panel_overlap
from lucidvi.metrics._panel_redundancy import panel_redundancy
from lucidvi.metrics._planted_recovery import planted_recovery
from lucidvi.metrics._polarization import polarization
from lucidvi.metrics._predictability import predictability
from lucidvi.metrics._randomization_test import randomization_similarity
from lucidvi.metrics._separation import separation
from lucidvi.metrics._set_hits import set_hits
from lucidvi.metrics._set_overlap import set_overlap
from lucidvi.metrics._specificity import jsd_specificity
from lucidvi.metrics._translation_scores import translation_scores

__all__ = [
    "attribution_agreement",
    "attribution_share",
    "attribution_stability",
    "bootstrap_means",
    "coexpression",
    "completeness_gap",
    "curve_area",
    "deletion_curve",
    "expression_change",
    "fssf",
    "hit_ratio",
    "insertion_curve",
    "jaccard_curve",
    "jsd_specificity",
    "knn_accuracy",
    "neighborhood_overlap",
    "neighborhood_variance",
    "panel_auroc",
    "panel_overlap",
    "panel_redundancy",
    "planted_recovery",
    "polarization",
    "predictability",
    "randomization_similarity",
    "separation",
    "set_hits",
    "set_overlap",
    "translation_scores",
]
