"""Attention: one call, several kernels. Everything in Kinoform that attends does so through `attend`."""

from shared.attention.dispatch import BACKENDS, Explanation, attend, attend_frames, choose, explain
from shared.attention.processor import AttendAddedKVProcessor, AttendProcessor, install_attention

__all__ = [
    "BACKENDS",
    "AttendAddedKVProcessor",
    "AttendProcessor",
    "Explanation",
    "attend",
    "attend_frames",
    "choose",
    "explain",
    "install_attention",
]
