"""The list of planted faults: each can be planted, and has a test. ``make mutants`` plants them."""

import re

from mutants import FAULTS

from pacd.data import ROOT


def test_each_fault_has_one_place_and_a_test():
    for fault in FAULTS:
        assert (ROOT / fault.file).read_text().count(fault.old) == 1, fault
        file, _, name = fault.test.partition("::")  # no name: any test of the file
        source = (ROOT / "tests" / file).read_text()
        assert re.search(rf"^def {name.split('[')[0]}", source, re.M), fault
    assert len(FAULTS) >= 30 and len(set(FAULTS)) == len(FAULTS)
