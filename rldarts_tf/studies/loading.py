"""Settings of a study from gin files."""

from __future__ import annotations

from collections.abc import Sequence

from rldarts_tf.errors import ConfigError, one_line
from rldarts_tf.launch import gin_files
from rldarts_tf.studies.settings import StudySettings


def load_study(files: Sequence[str], bindings: Sequence[str] = ()) -> StudySettings:
    """Reads the settings of a study.

    Args:
      files: paths, or names in gin/.
      bindings: such as "StudySettings.random_cells = 20"; after all files.

    Raises:
      ConfigError: a file is missing, or a setting is unknown or not valid.
    """
    gin_files.load(files, bindings)
    try:
        return StudySettings()
    except ConfigError as error:
        # gin appends where the call was configured.
        raise ConfigError(str(error).splitlines()[0]) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"gin: {one_line(error)}") from None
