"""Parametrised tests that run with pytest and, where it is missing, without: ``python -m tests.gpu.run``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

try:
    import pytest
except ModuleNotFoundError:
    pytest = None

Test = TypeVar("Test", bound=Callable[..., None])


SKIPS: tuple[type[BaseException], ...] = () if pytest is None else (pytest.skip.Exception,)


def over(names: str, cases: Iterable[tuple[Any, ...]]) -> Callable[[Test], Test]:
    """The test once for each tuple of ``cases``; names as for ``pytest.mark.parametrize``."""
    cases = list(cases)
    ids = ["-".join(_word(each) for each in case) for case in cases]

    def mark(test: Test) -> Test:
        test.cases = dict(zip(ids, cases, strict=True))  # type: ignore[attr-defined]
        if pytest is None:
            return test
        values = [case[0] for case in cases] if "," not in names else cases
        return pytest.mark.parametrize(names, values, ids=ids)(test)

    return mark


def _word(value: Any) -> str:
    return str(value).removeprefix("torch.")
