"""Docstrings are plain text for people who read the source; the API page shows them as meant."""


def plain_text(app, what, name, obj, options, lines):
    """|x| is a norm, not a substitution; an indented formula of a module keeps its lines."""
    shown = []
    for line in lines:
        formula = what == "module" and line.startswith("    ")
        if formula and not shown[-1]:
            shown += ["::", ""]
        shown.append(line if formula else line.replace("|", r"\|"))
    lines[:] = shown


def setup(app):
    app.connect("autodoc-process-docstring", plain_text)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
