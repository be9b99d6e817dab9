"""The newest entries stay, the oldest go, and what cannot be a key is not remembered."""

from agent_rl.cache import Cache


def test_the_oldest_entries_go_first():
    cache = Cache(10)
    for number in range(6):
        cache.put(number, str(number), 3)
    assert [cache.get(number) for number in range(6)] == [None, None, None, None, "4", "5"]
    assert cache.weight == 8


def test_what_is_too_heavy_drives_nothing_out():
    cache = Cache(10)
    cache.put("small", 1, 3)
    cache.put("large", 2, 10)
    assert (cache.get("small"), cache.get("large")) == (1, None)


def test_a_key_weighs_once_and_keeps_its_first_value():
    cache = Cache(10)
    cache.put("a", 1, 3)
    cache.put("a", 2, 3)
    assert (cache.get("a"), cache.weight) == (1, 4)


def test_what_cannot_be_a_key_is_not_remembered():
    cache = Cache(10)
    for key in (None, ["a"], ("a", {})):
        cache.put(key, 1, 1)
        assert cache.get(key) is None
    assert cache.weight == 0
