"""The list of deliberate faults keeps up with the code, and a fault is told from none."""

import pytest

from benchmarks.mutants import Fault, copies, noticed, read_faults

TESTS = "tests/shared/test_rng.py"


def test_every_fault_is_one_line_that_is_there_once():
    faults = read_faults()
    assert len(faults) >= 40
    assert len(set(faults)) == len(faults)
    assert all(fault.right != fault.wrong for fault in faults)


@pytest.mark.parametrize("text", ["", "a = 1\na = 1\n"])
def test_a_stale_fault_is_an_error(text):
    with pytest.raises(ValueError, match="expected once"):
        Fault("shared/rng.py", "a = 1", "a = 2", TESTS).applied_to(text)


def test_a_fault_is_noticed_and_a_change_of_nothing_is_not(tmp_path):
    folders = list(copies(1, tmp_path))
    right = "int(i) for i in index"
    for wrong, seen in (("int(j) for j in index", False), ("int(i) for i in index[:1]", True)):
        assert noticed(Fault("shared/rng.py", right, wrong, TESTS), folders) is seen
        assert len(folders) == 1
