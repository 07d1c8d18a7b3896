"""A sequence that is made when it is first read."""

import pytest

from codegen_eval.deferred import Deferred


def test_it_is_made_once_and_its_length_is_known_before() -> None:
    made = []
    items = Deferred(2, lambda: made.append(1) or ("small", "large"))  # type: ignore[func-returns-value]
    assert len(items) == 2
    assert items
    assert not made
    assert list(items) == ["small", "large"]
    assert items[-1] == "large"
    assert items[:1] == ("small",)
    assert made == [1]


def test_it_is_equal_to_the_tuple_of_its_items() -> None:
    items = Deferred(2, lambda: (1, 2))
    assert items == (1, 2)
    assert items == Deferred(2, lambda: (1, 2))
    assert items != (1, 3)
    assert hash(items) == hash((1, 2))
    assert repr(items) == "(1, 2)"


def test_another_number_of_items_than_announced_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 items were announced, 2 were made"):
        Deferred(3, lambda: (1, 2)).items()
