"""Results of :mod:`lucidvi.explain` as tidy tables, as :mod:`scanpy.get` gives those of scanpy."""

from lucidvi.get._attributions import attributions
from lucidvi.get._cross_effect import cross_effect
from lucidvi.get._faithfulness import faithfulness
from lucidvi.get._faithfulness_curves import faithfulness_curves
from lucidvi.get._feature_graph import feature_graph
from lucidvi.get._gene_panel import gene_panel
from lucidvi.get._joint_panel import joint_panel
from lucidvi.get._links import links
from lucidvi.get._loadings import loadings
from lucidvi.get._panels import panels
from lucidvi.get._set_interactions import set_interactions
from lucidvi.get._subset_donors import subset_donors
from lucidvi.get._subset_features import subset_features
from lucidvi.get._subset_sets import subset_sets

__all__ = [
    "attributions",
    "cross_effect",
    "faithfulness",
    "faithfulness_curves",
    "feature_graph",
    "gene_panel",
    "joint_panel",
    "links",
    "loadings",
    "panels",
    "set_interactions",
    "subset_donors",
    "subset_features",
    "subset_sets",
]
