"""Buttons that open a page in JupyterLab on Binder.

They are there where the variable REPOSITORY names a public copy of the repository.
"""

import os
import re

from sphinx.errors import ConfigError


def add_buttons(app, config):
    repository = os.environ.get("REPOSITORY")
    if not repository:
        return
    if not re.fullmatch(r"https://[^/\s]+/\S+", repository):
        raise ConfigError(
            f"REPOSITORY must be the https address of a public repository, not {repository!r}."
        )
    config.html_theme_options |= {
        "repository_url": repository,
        "repository_branch": "main",
        "path_to_docs": "book",
        "use_repository_button": True,
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
        },
    }


def setup(app):
    app.connect("config-inited", add_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
