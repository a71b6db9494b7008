"""The compiler: without a place for a cache it works all the same, and a wait for it is announced."""

import pytest

from eqdisc.work import compiler

numba = pytest.importorskip("numba")


def test_where_no_cache_can_be_written_kernels_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(function: object, *, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("no locator available")
        return njit(function, **options)

    njit = numba.njit
    monkeypatch.setattr(numba, "njit", refuse)
    assert compiler.compiled(lambda x: x + 1)(1) == 2


def test_a_wait_for_the_compiler_is_announced_once() -> None:
    told = []
    fresh = numba.njit(lambda x: x + 2)
    with compiler.announcing(lambda: told.append("wait")):
        assert (fresh(1), fresh(1.0), fresh(1)) == (3, 3.0, 3)
    fresh(1j)
    assert told == ["wait"]
