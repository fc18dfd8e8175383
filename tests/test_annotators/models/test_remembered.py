"""What a network made of its latest inputs."""

import numpy as np

from annotators.models.remembered import Remembered


def test_equal_arrays_are_worked_on_once_and_the_longest_unasked_is_forgotten() -> None:
    """Shape and type count, so that the same bytes in another form are another input."""
    made: list[tuple[tuple[int, ...], str]] = []
    remembered = Remembered[int](2)

    def ask(array: np.ndarray) -> int:
        def make() -> int:
            made.append((array.shape, array.dtype.str))
            return len(made)

        return remembered.get(array, make)

    a, b = np.zeros(4, np.float32), np.ones(4, np.float32)
    assert [ask(a), ask(b), ask(a.copy()), ask(b)] == [1, 2, 1, 2]
    assert ask(a.reshape(2, 2)) == 3  # `a` was asked before `b`, and is forgotten
    assert [ask(b), ask(a)] == [2, 4]
    remembered.clear()
    assert ask(a) == 5
    assert ask(a.view(np.int32)) == 6
