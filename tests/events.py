"""Reads TensorBoard's event files."""

from __future__ import annotations


def _values(folder):
    import tensorflow as tf

    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                is_picture = value.metadata.plugin_data.plugin_name == "images"
                yield is_picture, value.tag, event.step, tf.make_ndarray(value.tensor)


def scalars(folder):
    """[(tag, step, number)], in the order in which they were written."""
    return [(tag, step, float(x)) for picture, tag, step, x in _values(folder) if not picture]


def pictures(folder):
    """[(tag, step, (width, height, PNG))], as bytes."""
    return [(tag, step, x) for picture, tag, step, x in _values(folder) if picture]
