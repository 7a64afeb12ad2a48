"""The one family of errors that is shown to users as a sentence instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RosAttnError(Exception):
    """A mistake a user can mend: one sentence that says what, where and what to do."""


class ParameterError(RosAttnError):
    """A parameter that is unknown or outside its range."""


class BagError(RosAttnError):
    """A bag that cannot be read or written."""


class TopicError(RosAttnError):
    """A topic that is absent, or of another type than the component takes."""


class MessageError(RosAttnError):
    """A message whose contents contradict themselves or that no codec understands."""


class CheckpointError(RosAttnError):
    """A checkpoint that is missing, damaged, unsafe or made for something else."""


class TransformError(RosAttnError):
    """A transform that the TF tree does not give at the asked time."""


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names as a readable list, the tail counted: ``a, b and 3 more``."""
    names = list(names)
    if not names:
        return "none"
    head = ", ".join(names[:most])
    return head if len(names) <= most else f"{head} and {len(names) - most} more"


def meant(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` where a known word is close to the one given, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
