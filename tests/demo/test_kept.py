from rrsis_zoo.demo.kept import Kept


def test_those_not_used_for_the_longest_time_make_room():
    kept = Kept(10, len)
    for name in "abc":
        kept.put(name, name * 4)
    assert kept.get("a") is None
    assert kept.get("b") == "bbbb"
    kept.put("d", "dddd")
    assert kept.get("c") is None
    assert (kept.get("b"), kept.get("d")) == ("bbbb", "dddd")


def test_the_newest_stays_however_large():
    kept = Kept(10, len)
    kept.put("a", "a")
    kept.put("b", "b" * 100)
    assert (kept.get("a"), kept.get("b"), len(kept)) == (None, "b" * 100, 1)


def test_a_value_put_again_counts_once():
    kept = Kept(10, len)
    kept.put("a", "aaaa")
    kept.put("b", "bbbb")
    kept.put("a", "aaaaa")
    assert (kept.get("a"), kept.get("b")) == ("aaaaa", "bbbb")
