"""Settings of Sphinx, which renders this folder: ``tox -e docs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cloudwatch_handler import __version__

project = "cloudwatch_handler"
author = "The cloudwatch_handler maintainers"
release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"cloudwatch handler {release}"
html_show_sphinx = False
html_show_copyright = False
