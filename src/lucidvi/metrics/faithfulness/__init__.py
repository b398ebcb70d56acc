"""Whether attributions are faithful to their model: curves, and checks of attributions."""

from lucidvi.metrics.faithfulness._attribution_agreement import attribution_agreement
from lucidvi.metrics.faithfulness._attribution_stability import attribution_stability
from lucidvi.metrics.faithfulness._bootstrap_means import bootstrap_means
from lucidvi.metrics.faithfulness._completeness_gap import completeness_gap
from lucidvi.metrics.faithfulness._curve_area import curve_area
from lucidvi.metrics.faithfulness._deletion_curve import deletion_curve
from lucidvi.metrics.faithfulness._insertion_curve import insertion_curve
from lucidvi.metrics.faithfulness._randomization_similarity import randomization_similarity

__all__ = [
    "attribution_agreement",
    "attribution_stability",
    "bootstrap_means",
    "completeness_gap",
    "curve_area",
    "deletion_curve",
    "insertion_curve",
    "randomization_similarity",
]
