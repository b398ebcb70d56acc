"""Configuration of the documentation."""

import logging
import os
import warnings
from importlib.metadata import version as package_version

# The models of the examples are small: several threads wait for one another longer than they compute.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import lightning.pytorch  # noqa: F401  (it sets its own level)

import lucidvi

project = "lucidvi"
author = "lucidvi developers"
copyright = "2026, lucidvi developers"
version = release = package_version("lucidvi")

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "sphinxext.opengraph",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints", "tutorials/lucidvi-quickstart"]

# Inventories of other packages come from the network: only where the pages are published.
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "mudata": ("https://mudata.readthedocs.io/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }

# A reference to lucidvi must lead somewhere; those to other packages need their inventories.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!lucidvi\.).*"),
    ("py:class", r"lucidvi\.(.+\.)?_.+"),
]  # types of arguments

# Examples of plots are run and shown.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # of the small models they train
warnings.filterwarnings("ignore", module="lightning")
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 110)]
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

autosummary_generate = True
# What lucidvi itself defines, in the class or in a mixin: the pages of the models leave the rest to scvi-tools.
autosummary_context = {
    "own_members": {
        f"lucidvi.model.{name}": sorted(
            member
            for base in getattr(lucidvi.model, name).__mro__
            if base.__module__.startswith("lucidvi.")
            for member in vars(base)
        )
        for name in lucidvi.model.__all__
    }
}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_custom_sections = [
    ("Returns", "prose"),
    ("Warns", "prose"),
]  # not a type and its description

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "tasklist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed executed
nb_output_stderr = "remove"  # what other packages say of themselves

html_theme = "sphinx_book_theme"
html_title = "lucidvi"
html_static_path = ["_static", "../src/lucidvi/_report/sort.js"]
html_css_files = ["custom.css"]
html_js_files = [("sort.js", {"defer": "defer"})]  # tables that sort, as in a report
html_logo = html_favicon = "_static/logo.svg"
html_theme_options = {"show_navbar_depth": 1, "logo": {"text": "lucidvi"}}
html_sidebars = {
    "**": ["navbar-logo.html", "sbt-sidebar-nav.html"]
}  # the header of each page has the search
# What other sites show of a link to these pages.
ogp_site_url = "https://lucidvi.readthedocs.io/en/latest/"
ogp_image = "_static/readme.png"
ogp_social_cards = {"enable": False}
