"""Which models are explained, which are refused and how, and how others are added from outside."""

import inspect
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from builders import BUILDERS, QUIET, counts
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import LayerField
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin
from scvi.module.base import BaseModuleClass, LossOutput

import lucidvi as lv

SOURCE = Path(lv.__file__).parent
FUNCTIONS = {
    "subset_perturbation": lambda m: lv.explain.subset_perturbation(m, "gene_1"),
    "cross_effect": lambda m: lv.explain.cross_effect(m),
    "links": lambda m: lv.explain.links(m),
    "set_interactions": lambda m: lv.explain.set_interactions(m),
    "gene_panel": lambda m: lv.explain.gene_panel(m, "labels"),
    "joint_panel": lambda m: lv.explain.joint_panel(m, "labels"),
    "panel_confidence": lambda m: lv.explain.panel_confidence(m),
    "attributions": lambda m: lv.explain.attributions(m, "latent"),
    "attribution_confidence": lambda m: lv.explain.attribution_confidence(m),
    "faithfulness": lambda m: lv.explain.faithfulness(m, "gene_1"),
    "loadings": lambda m: lv.explain.loadings(m),
    "set_effect": lambda m: lv.explain.set_effect(m, {"s": ["gene_1", "gene_2", "gene_3"]}),
    "set_space": lambda m: lv.explain.set_space(m, {"s": ["gene_1", "gene_2"]}),
    "feature_graph": lambda m: lv.explain.feature_graph(m),
}


def classes():
    """Model classes of scvi-tools, found by walking its two packages."""
    found = {}
    for package in (scvi.model, scvi.external):
        for name in dir(package):
            thing = getattr(package, name)
            if inspect.isclass(thing) and issubclass(thing, BaseModelClass):
                found[name] = thing
    return found


def test_all_explanations_are_here():
    assert set(FUNCTIONS) == set(lv.explain.__all__)


def test_every_class_is_explained_or_refused_in_one_sentence():
    table = lv.adapters.supported().set_index("model")
    assert len(table) == len(set(table.index))
    known, refused = classes(), set()
    assert len(table[table["package"] == "scvi-tools"]) >= 22
    for name, cls in known.items():
        if name in table.index:
            continue
        model = cls.__new__(cls)  # refused before anything of it is read
        sentences = set()
        for call in FUNCTIONS.values():
            with pytest.raises(TypeError) as caught:
                call(model)
            sentences.add(str(caught.value))
        (sentence,) = sentences
        assert sentence.startswith(f"Cannot explain a {name}. Supported: ACE, AUTOZI,")
        assert f"lucidvi.adapters.register({name}, ...)" in sentence
        refused.add(name)
    assert refused and not refused & set(table.index)


def test_every_explained_class_has_a_builder():
    """Names of builders are those of the classes, with a variant behind an underscore."""
    built = {name.split("_")[0] for name in BUILDERS}
    assert built == set(lv.adapters.supported()["model"])


@pytest.mark.parametrize("thing", [None, {}, "model", ad.AnnData(np.ones((2, 2)))])
def test_no_model(thing):
    for call in FUNCTIONS.values():
        with pytest.raises(
            TypeError,
            match="Expected a trained model of scvi-tools or lucidvi as the first argument",
        ):
            call(thing)


def test_not_trained():
    adata = counts()
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata)
    for call in FUNCTIONS.values():
        with pytest.raises(
            RuntimeError, match=r"The model is not trained. Call model.train\(\) first."
        ):
            call(model)


def test_subclasses_inherit_if_they_lie_where_they_say(fitted):
    class Other(scvi.model.SCVI):
        pass

    class Moved(scvi.model.SCVI):
        def get_latent_representation(self, *args, **kwargs):
            return super().get_latent_representation(*args, **kwargs) + 1

    for cls in (Other, Moved):
        adata = counts()
        cls.setup_anndata(adata, batch_key="batch")
        model = cls(adata, n_latent=2, n_hidden=8)
        model.train(1, **QUIET)
        if cls is Other:
            lv.explain.loadings(model)
            assert adata.varm["loadings"].shape == (20, 2)
        else:
            with pytest.raises(
                TypeError,
                match="latent positions of this Moved are not those.*Cannot explain a Moved",
            ):
                lv.explain.loadings(model)


def test_no_attributes_are_guessed_in_explain():
    """What a model can do is declared by its adapter."""
    code = {p: p.read_text("utf-8") for p in (SOURCE / "explain").rglob("*.py")}
    guesses = re.compile(r"\bhasattr\(|\bgetattr\((?!store, slot\))")
    assert not [p.name for p, text in code.items() if guesses.search(text)]


def test_no_list_of_models_outside_the_registry():
    """Only adapters and models name several classes of scvi-tools in code."""
    names = set(classes())
    for path in SOURCE.rglob("*.py"):
        if path.parts[-2] in ("adapters",) or "model" in path.parts:
            continue
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text("utf-8"))
        assert len(set(re.findall(r"\b\w+\b", code)) & names) <= 1, path


def test_table_of_the_docs_is_that_of_the_registry():
    rows = [" | ".join(("", *row, "")).strip() for row in lv.adapters.supported().to_numpy()]
    root = SOURCE.parents[1]
    if not (root / "docs").exists():
        pytest.skip("the documentation is not shipped")
    text = (root / "docs" / "user_guide" / "models.md").read_text("utf-8")
    assert not [row for row in rows if row not in text], "run docs/write_models.py"


# ---- a model of its own, registered from outside the package -------------------------------------


class FactorModule(BaseModuleClass):
    """Factor analysis with a nonlinear encoder."""

    def __init__(self, n_features, n_latent):
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.Linear(n_features, 8), torch.nn.Softplus(), torch.nn.Linear(8, n_latent)
        )
        self.decoder = torch.nn.Linear(n_latent, n_features)

    def _get_inference_input(self, tensors):
        return {"x": tensors["X"]}

    def inference(self, x):
        return {"z": self.encoder(torch.log1p(x))}

    def _get_generative_input(self, tensors, inference_outputs):
        return inference_outputs

    def generative(self, z):
        return {"mean": torch.softmax(self.decoder(z), -1)}

    def loss(self, tensors, inference_outputs, generative_outputs):
        error = (generative_outputs["mean"] - tensors["X"] / 100).square().sum(1)
        return LossOutput(loss=error.mean(), reconstruction_loss=error, kl_local=0 * error)


class Factors(UnsupervisedTrainingMixin, BaseModelClass):
    def __init__(self, adata):
        super().__init__(adata)
        self.module = FactorModule(adata.n_vars, 3)
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_anndata(cls, adata, **kwargs):
        arguments = cls._get_setup_method_args(cls=cls, adata=adata)
        manager = AnnDataManager(fields=[LayerField("X", None)], setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @torch.inference_mode()
    def get_latent_representation(self, adata=None, indices=None):
        loader = self._make_data_loader(adata=self._validate_anndata(adata), indices=indices)
        return torch.cat([self.module.inference(t["X"])["z"] for t in loader]).numpy()


class FactorsAdapter(lv.adapters.Adapter):
    def inputs(self):
        scale = lv.adapters.Scale(log=1.0)
        return {None: lv.adapters.Input(REGISTRY_KEYS.X_KEY, self.names("X"), scale=scale)}

    def outputs(self):
        return {
            "latent": lv.adapters.Output(pd.RangeIndex(3).astype(str)),
            "expression": lv.adapters.Output(self.names("X"), "share"),
        }

    def position(self, x, tensors, kind):
        return self.module.encoder(x)

    def decode(self, z, tensors, kind):
        return self.module.generative(z)["mean"]


def test_a_model_from_outside():
    assert len(inspect.getsource(FactorsAdapter).splitlines()) <= 40
    adata = counts()
    Factors.setup_anndata(adata)
    model = Factors(adata)
    model.train(3, train_size=0.8, **QUIET)
    with pytest.raises(TypeError, match=r"Cannot explain a Factors.*register\(Factors, ...\)"):
        lv.explain.loadings(model)
    registered = lv.adapters._registry
    before = dict(registered._classes)
    try:
        lv.adapters.register(Factors, FactorsAdapter)
        lv.testing.check_adapter(model)
        lv.explain.loadings(model)
        lv.explain.subset_perturbation(model, "gene_3", n_features=2, n_null=2, progress=False)
        lv.explain.gene_panel(model, "labels", n_steps=3, n_null=1, progress=False)
        lv.explain.attributions(model, {"latent": 1}, n_cells=10, n_draws=3, progress=False)
        lv.explain.faithfulness(model, "gene_3", n_cells=10, n_null=2, n_models=1, progress=False)
        assert set(adata.varm) >= {"loadings", "subset_perturbation", "gene_panel", "attributions"}
        assert "faithfulness" in adata.uns
        assert "Factors" in lv.adapters.supported()["model"].to_list()
    finally:
        registered._classes.clear()
        registered._classes.update(before)


@pytest.mark.parametrize(("given", "match"), [
    ((dict, FactorsAdapter), "is not a class of scvi-tools models"),
    ((Factors, Factors), "is not a concrete subclass of lucidvi.adapters.Adapter"),
    ((Factors, lv.adapters.Adapter), "It lacks decode, inputs, outputs, position"),
])  # fmt: skip
def test_register_checks_both(given, match):
    with pytest.raises(TypeError, match=match):
        lv.adapters.register(*given)


def test_what_an_adapter_says_of_its_model(fitted):
    """Inputs, outputs, targets and the cut are public."""
    function = lv.adapters.adapter(fitted("MULTIVI"), modality="atac")
    assert isinstance(function.input, lv.adapters.Input) and function.input.kind == "peaks"
    output = function.output("expression")
    assert isinstance(output, lv.adapters.Output) and output.is_share and output.modality == "rna"
    chosen = function.target({"latent": [2, "latent 0"]})
    assert isinstance(chosen, lv.adapters.Target)
    assert chosen.names == ("2", "0") and chosen.columns == (2, 0)
    assert isinstance(function.cut("expression"), lv.adapters.Cut)
    with pytest.raises(
        TypeError, match="MULTIVI that reads 'atac' has no label to explain. It has: latent"
    ):
        function.target({"label": "B"})
