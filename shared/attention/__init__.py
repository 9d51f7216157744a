"""Attention: one call, several kernels. Everything in Kinoform that attends does so through `attend`."""

from shared.attention.backends import BACKENDS
from shared.attention.dispatch import attend, attend_frames, choose
from shared.attention.explain import Explanation, explain
from shared.attention.request import Request, request_of
from shared.attention.routing.install import install_attention
from shared.attention.routing.processor import AttendAddedKVProcessor, AttendProcessor
from shared.attention.routing.walk import Attention, attentions, unrouted

__all__ = [
    "BACKENDS",
    "AttendAddedKVProcessor",
    "AttendProcessor",
    "Attention",
    "Explanation",
    "Request",
    "attend",
    "attend_frames",
    "attentions",
    "choose",
    "explain",
    "install_attention",
    "request_of",
    "unrouted",
]
