"""Pages are executed side by side; two extensions are safe in that and do not say so."""

from sphinx_proof.domain import ProofDomain


def declare(app):
    # Jupyter Book adds it; it numbers the pages after all were read.
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True


def setup(app):
    app.connect("builder-inited", declare)
    # The statements stand in env.proof_list, which sphinx-proof merges; its domain holds no data.
    ProofDomain.merge_domaindata = lambda domain, docnames, other: None
    return {"parallel_read_safe": True, "parallel_write_safe": True}
