"""Pages are short: words of visible prose, folded parts and figures apart."""

import re

import pytest

from pacd.data import ROOT

BOOK = ROOT / "book"
FOLDED = re.compile(r"^:::\{dropdown\}.*?^:::$", re.M | re.S)
FENCED = re.compile(r"^(`{3,})\{?.*?^\1$", re.M | re.S)
FRONT = re.compile(r"\A---\n.*?\n---\n", re.S)
ROLE = re.compile(r"\{[\w:]+\}`([^`<]*?)(<[^>]*>)?`")  # reads as one word, or as its text
LIMIT = 450
EXPERIMENTS = [f"experiments/{path.stem}" for path in (BOOK / "experiments").glob("*.md")]
OTHERS = ["results", "gallery", "curator", "claims", "certification", "cost_of_attack", "cost"]
PAGES = sorted([*EXPERIMENTS, *OTHERS])


def prose(page):
    """What a reader sees of a page beside its figures, tables and folded parts."""
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    for part in (FRONT, FOLDED, FENCED):
        text = part.sub("", text)
    return ROLE.sub(r"\1", text)


def words(text):
    return re.findall(r"[^\W_][\w'’-]*", text)


def sentences(text):
    """Sentences of running text: a line of a list, or a heading, ends one as well."""
    lines = re.sub(r"\n(?=[-#|(\d])", "\n\n", text)
    parts = re.split(r"\n\s*\n|(?<=[.!?])\s+(?=[A-Z*`(])", lines)
    return [part for part in parts if words(part)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_results_is_told_in_few_words(page):
    assert len(words(prose(page))) <= LIMIT


def test_planted_walls_of_text_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("test_words.BOOK", tmp_path)
    folded = ":::{dropdown} more\n" + "word " * 500 + "\n:::\n"
    cell = "```{code-cell} ipython3\n" + "word " * 500 + "\n```\n"
    (tmp_path / "wall.md").write_text("---\na: b\n---\n# Head\n" + folded + cell + "word " * 451)
    assert len(words(prose("wall"))) == 452


def test_the_first_page_takes_two_minutes():
    text = prose("index")
    threat, rest = text.split("# Poisoning Against Certified Defenses")[1].split("1. ", 1)
    assert len(words(threat.split("\n\n")[1])) <= 40
    findings, rest = ("1. " + rest).split("**How sure is it?**")
    for finding in re.split(r"^\d\. ", findings, flags=re.M)[1:]:
        assert len(words(finding)) <= 35, finding
    assert len(words(rest.split("\n\n")[0])) <= 80
    assert [s for s in sentences(text) if len(words(s)) > 35] == []
