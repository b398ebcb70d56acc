"""What scARE compares with the feature sets."""

from dataclasses import dataclass
from typing import Literal

from lucidvi._validation import check_integer, near

STEERING = 0.6  # of the way to a similar cell, wanted by default
PRICE_OF_A_GENE = 1.0  # default weight where few genes of any kind are wanted
FEATURE_SETS = (
    "feature_sets"  # in the registry, and in a minibatch where every cell has a set of its own
)

STEERINGS = ("block", "attribution", "likelihood")
CHOICES = {
    "scalar": ("projection", "sum", "l2", "dimension", "reconstruction"),
    "attribution": ("expected_gradients", "integrated_gradients"),
    "reparametrization": ("abs_minmax", "sigmoid"),
    "attribution_loss": ("mae", "mse"),
    "combine": ("sum", "square_sum"),
}


def check_choice(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    """Require one of the allowed strings."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown. Allowed: {allowed}. {near(value, allowed)}")


@dataclass(frozen=True)
class AttributionOptions:
    """What the attribution loss compares; the parameters are those of :class:`lucidvi.model.SCARE`."""

    scalar: Literal["projection", "sum", "l2", "dimension", "reconstruction"] = "projection"
    attribution: Literal["expected_gradients", "integrated_gradients"] = "expected_gradients"
    n_references: int = 1
    n_steps: int = 5
    reparametrization: Literal["abs_minmax", "sigmoid"] = "abs_minmax"
    attribution_loss: Literal["mae", "mse"] = "mae"
    combine: Literal["sum", "square_sum"] = "sum"
    disjoint: bool = False
    minimal: bool = False

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        check_integer(self.n_references, 1, "n_references")
        check_integer(self.n_steps, 1, "n_steps")
        for name in ("disjoint", "minimal"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}={getattr(self, name)!r} must be True or False.")
        if self.disjoint and self.scalar == "reconstruction":
            raise ValueError(
                "disjoint=True divides the latent dimensions, which scalar='reconstruction' mixes. "
                "Choose another scalar."
            )
