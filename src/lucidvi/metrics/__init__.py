"""How good a prediction, a set, a panel or a latent space is: arrays and tables in, numbers or tables out.

Checks of attributions are in :mod:`lucidvi.metrics.faithfulness`.
"""

from lucidvi.metrics import faithfulness
from lucidvi.metrics._attribution_share import attribution_share
from lucidvi.metrics._fssf import fssf
from lucidvi.metrics._hit_ratio import hit_ratio
from lucidvi.metrics._knn_accuracy import knn_accuracy
from lucidvi.metrics._link_recovery import link_recovery
from lucidvi.metrics._panel_auroc import panel_auroc
from lucidvi.metrics._panel_overlap import panel_overlap
from lucidvi.metrics._panel_redundancy import panel_redundancy
from lucidvi.metrics._panel_stability import panel_stability
from lucidvi.metrics._planted_recovery import planted_recovery
from lucidvi.metrics._polarization import polarization
from lucidvi.metrics._predictability import predictability
from lucidvi.metrics._rankings_of import rankings
from lucidvi.metrics._separation import separation
from lucidvi.metrics._set_enrichment import set_enrichment
from lucidvi.metrics._set_hits import set_hits
from lucidvi.metrics._set_overlap import set_overlap
from lucidvi.metrics._translation_scores import translation_scores

__all__ = [
    "attribution_share",
    "fssf",
    "hit_ratio",
    "knn_accuracy",
    "link_recovery",
    "panel_auroc",
    "panel_overlap",
    "panel_redundancy",
    "panel_stability",
    "planted_recovery",
    "polarization",
    "predictability",
    "rankings",
    "separation",
    "set_enrichment",
    "set_hits",
    "set_overlap",
    "translation_scores",
]
