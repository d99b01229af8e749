"""Settings of trainings that make no sense are refused, in one way for all of them."""

from __future__ import annotations

from captioner.errors import CaptionerError


def check_setting(options, name: str, holds: bool, wanted: str) -> None:
    """Refuses a setting that makes no sense.

    Args:
        options: What has the setting.
        name: Name of the setting.
        holds: Whether it makes sense.
        wanted: What it must be, for the message.

    Raises:
        CaptionerError: It makes no sense (``kind="usage"``).
    """
    if not holds:
        raise CaptionerError(f"{name} must be {wanted}, not {getattr(options, name)!r}", kind="usage")
