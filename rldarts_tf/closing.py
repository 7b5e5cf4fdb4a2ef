"""Objects that must be closed."""

from __future__ import annotations

import abc

from typing_extensions import Self


class Closing(abc.ABC):
    """Base class of context managers that close themselves."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes background resources; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
