"""Objects that must be closed."""

from __future__ import annotations

import abc

from typing_extensions import Self

from rldarts_tf.errors import RunError


class Closing(abc.ABC):
    """Base class of context managers that close themselves."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes background resources; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_open(is_open: bool) -> None:
    """Checks that environments may still be used.

    Raises:
      RunError: they may not.
    """
    if not is_open:
        raise RunError("the environments have been closed: make new ones")
