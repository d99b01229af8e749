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

        # Without autograph: nothing here depends on the values of tensors, and reading the source again takes time.
        return tf.function(function, autograph=False, reduce_retracing=True)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
