"""The one place that knows how each Keras backend compiles a function."""

from __future__ import annotations

from collections.abc import Callable

import keras


def compiled(function: Callable) -> Callable:
    """The function, compiled where the backend can: once per shape at first, then with free shapes.

    Args:
        function: Takes and returns (nested tuples and dicts of) tensors, and has no side effects.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
