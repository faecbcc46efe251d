"""How the documentation is built: `make docs` writes docs/_build/html, without a network."""

import sys
import warnings
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
warnings.filterwarnings("ignore", message=".*set_application.*")  # sphinx-autodoc-typehints 3.6 under Sphinx 9

project = "grfd"
author = "The grfd founders"
copyright = author
release = version = version_of("grfd")
html_title = f"grfd {release}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_autodoc_typehints",
    "docstrings",
    "generated_pages",
    "mathml",
]
exclude_patterns = ["_build", "_extensions"]
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["grfd.css"]
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

default_role = "literal"  # a name in single backticks is code, as in Markdown
add_module_names = False
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # by sphinx-autodoc-typehints; fields of settings have their types on pages of their own
always_document_param_types = True
always_use_bars_union = True
typehints_defaults = "comma"

nitpicky = True
OTHERS = "torch|numpy|rich|accelerate|optuna|matplotlib|pathlib|collections|typing|jaxtyping|io|annotated_types"
# names of other projects, which cannot be looked up without a network, and private names, which have no page
nitpick_ignore_regex = [
    ("py:.*", rf"({OTHERS})\..*"),
    ("py:.*", r"(.*\.)?_.*"),
    ("py:.*", r"(Module|Tensor|optional|Ellipsis|Path|Generator)"),
]
suppress_warnings = [
    "config.cache",  # a function in this file
    "sphinx_autodoc_typehints.forward_reference",  # in rich
    "sphinx_autodoc_typehints.guarded_import",  # in PyTorch
]
