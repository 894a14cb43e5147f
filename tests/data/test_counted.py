"""Lines about long work: none where it is short, few where it is long, with what is left."""

from rrsis_zoo.data.counted import counted


def lines(number, seconds_each, capsys, what="train: masks decoded"):
    """Return what is said while so many items are done, and at which second."""
    now, said = [0.0], []
    for item in counted(range(number), number, what, lambda: now[0]):
        if line := capsys.readouterr().err:
            said.append((now[0], line.rstrip("\n")))
        now[0] = (item + 1) * seconds_each
    assert capsys.readouterr().err == ""
    return said


def test_short_work_says_nothing(capsys):
    assert lines(9, 1.0, capsys) == []
    assert lines(0, 1.0, capsys) == []


def test_long_work_says_how_long_it_still_takes(capsys):
    said = lines(4000, 0.1, capsys)
    assert said[0] == (10.0, "train: masks decoded: 100 of 4,000, about 6.5 min left")
    assert said[-1] == (370.0, "train: masks decoded: 3,700 of 4,000, about 30 s left")
    assert len(said) == 13  # a line every half minute, however many items there are


def test_one_slow_item_is_waited_for(capsys):
    assert [second for second, _ in lines(3, 100.0, capsys)] == [100.0, 200.0]


def test_without_a_name_nothing_is_said(capsys):
    assert lines(4000, 0.1, capsys, what="") == []


def test_the_items_come_through():
    assert list(counted(iter("abc"), 3, "x")) == ["a", "b", "c"]
