"""Threads: racing first calls, predictors of their own, nobody waiting for another, conversions that are overtaken."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paddle
import pytest
from engine_regions import STORABLE, Residual, apart, converting_elsewhere, region_of, settled
from paddle.base import framework

from autohybrid.engines import Busy, Request
from autohybrid.engines.paddle_export import contained, conversion_lock
from autohybrid.engines.pool import Pool
from autohybrid.engines.predictor import PredictorExecutable
from autohybrid.isolation import Finished, Forked
from autohybrid.runtime import region as region_module
from autohybrid.runtime.region import Region
from autohybrid.runtime.variant import State, Variant
from autohybrid.store import Store

THREADS = 4


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """``work`` done in threads that begin at the same moment; raises what one of them raised."""
    start = threading.Barrier(threads)

    def begun(number: int) -> Any:
        start.wait()
        with paddle.no_grad():
            return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begun, range(threads)))


def calls_of(region: Region) -> int:
    return region.hybrid_calls + sum(region.eager_calls.values())


@pytest.mark.parametrize("engine", STORABLE)
def test_four_threads_racing_the_first_call_all_get_right_answers(engine: str) -> None:
    layer = Residual()
    inputs = [paddle.randn([4, 16]) for _ in range(THREADS)]
    expected = [layer(x) for x in inputs]
    with region_of(layer, engine) as region:
        answers = together(lambda n: [region(inputs[n]) for _ in range(20)])
        assert max(apart(got, wanted) for gots, wanted in zip(answers, expected, strict=True) for got in gots) < 1e-4
        assert calls_of(region) == 20 * THREADS
        for _ in range(20):
            region(inputs[0])
        assert [variant.state for variant in region.variants] == [State.SERVING]


@pytest.mark.parametrize("engine", STORABLE)
def test_four_threads_racing_a_new_shape_all_get_right_answers(engine: str) -> None:
    layer = Residual()
    with region_of(layer, engine) as region:
        settled(region, paddle.randn([4, 16]))
        inputs = [paddle.randn([5 + n % 2, 16]) for n in range(THREADS)]
        expected = [layer(x) for x in inputs]
        answers = together(lambda n: [region(inputs[n]) for _ in range(20)])
        assert max(apart(got, wanted) for gots, wanted in zip(answers, expected, strict=True) for got in gots) < 1e-4
        # A change of state seen in the middle of a trace makes a variant begin again, so that it may need more calls.
        for x in inputs[:2]:
            for _ in range(20):
                region(x)
        assert {variant.state for variant in region.variants} == {State.SERVING}
        assert len(region.variants) == 3


def executable_of(variant: Variant) -> PredictorExecutable:
    executable = variant.executable
    assert isinstance(executable, PredictorExecutable)
    return executable


def test_warm_threads_are_hybrid_at_every_call() -> None:
    layer = Residual()
    with region_of(layer, options={"max_predictors": THREADS + 1}) as region:
        executable = executable_of(settled(region, paddle.randn([4, 16])))
        inputs = [paddle.randn([4, 16]) for _ in range(THREADS)]
        warm = threading.Barrier(THREADS)

        def work(number: int) -> tuple[Any, int]:
            while executable.predictors <= THREADS:
                region(inputs[number])
            warm.wait()
            before = sum(region.eager_calls.values())
            warm.wait()
            answers = [region(inputs[number]) for _ in range(50)]
            warm.wait()
            return answers[-1], sum(region.eager_calls.values()) - before

        for (answer, eager_calls), x in zip(together(work), inputs, strict=True):
            assert eager_calls == 0
            assert apart(answer, layer(x)) < 1e-4


def test_a_thread_has_a_predictor_of_its_own_until_it_ends() -> None:
    layer, x = Residual(), paddle.randn([4, 16])
    with region_of(layer, options={"max_predictors": 3}) as region:
        executable = executable_of(settled(region, x))
        assert executable.predictors == 1
        most = []

        def work(_: int) -> None:
            while executable.predictors < 3:
                region(x)
            most.append(executable.predictors)

        together(work, threads=2)
        assert max(most) == 3
        gc.collect()
        assert executable.predictors == 1


def test_beyond_the_bound_threads_share() -> None:
    layer, x = Residual(), paddle.randn([4, 16])
    with region_of(layer, options={"max_predictors": 1}) as region:
        executable = executable_of(settled(region, x))
        together(lambda _: [region(x) for _ in range(30)])
        assert executable.predictors == 1
        assert region.hybrid_calls > 0
        assert set(region.eager_calls) <= {"not converted yet", "being proven", "busy in other threads"}


def test_a_predictor_that_cannot_be_made_for_a_thread_is_shared(tmp_path: Path) -> None:
    layer, x = Residual(), paddle.randn([4, 16])
    with region_of(layer, options={"max_predictors": 4}) as region:
        executable = executable_of(settled(region, x))
        # As if somebody had cleared the directory: nothing more can be made from it.
        executable.moved(tmp_path / "gone")
        together(lambda _: [region(x) for _ in range(5)])
        assert executable.predictors == 1
        assert region.variants[0].state is State.SERVING


class _Meeting:
    """An engine whose executable waits in ``run`` until as many threads are in it as it was told."""

    name = "meeting"
    dimensions = ()

    def __init__(self, concurrent: bool) -> None:
        self.concurrent = concurrent
        self.barrier: threading.Barrier | None = None

    def unavailable(self) -> str | None:
        return None

    def check_options(self, options: dict[str, Any]) -> None:
        pass

    def attempts(self) -> Sequence[dict[str, Any]]:
        return [{}]

    def convert(self, request: Request) -> _Meeting:
        return self

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        if self.barrier is not None:
            self.barrier.wait(timeout=20)
        return [tensors[0] * 2]

    def close(self) -> None:
        pass


class Double(paddle.nn.Layer):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return x * 2


@pytest.mark.parametrize("concurrent", [True, False])
def test_threads_are_in_a_concurrent_executable_at_the_same_time(concurrent: bool) -> None:
    engine = _Meeting(concurrent)
    x = paddle.randn([4])
    with region_of(Double(), engine) as region:
        settled(region, x)
        engine.barrier = threading.Barrier(2 if concurrent else 1)
        together(lambda _: region(x), threads=2)
        if concurrent:
            # Had one waited for the other, the barrier would have broken, and the variant with it.
            assert region.variants[0].state is State.SERVING
            assert region.hybrid_calls == 2


class _Interrupted(_Meeting):
    """Lets a change of weights come between the conversion and its use."""

    def __init__(self) -> None:
        super().__init__(concurrent=True)
        self.meanwhile: Callable[[], None] = lambda: None
        self.closed = 0

    def convert(self, request: Request) -> _Meeting:
        self.meanwhile()
        return self

    def close(self) -> None:
        self.closed += 1


def test_a_conversion_that_a_change_overtakes_is_not_used() -> None:
    engine = _Interrupted()
    x = paddle.randn([4])
    with region_of(Double(), engine) as region:

        def change() -> None:
            engine.meanwhile = lambda: None
            region.variants[0].forget()

        engine.meanwhile = change
        region(x)
        assert region.variants[0].state is State.NEW
        assert engine.closed == 1
        assert settled(region, x).state is State.SERVING


def test_a_pool_that_is_closed_while_it_makes_its_first_item_is_busy() -> None:
    def make() -> None:
        pool.close()
        raise FileNotFoundError("what it is made from went with it")

    pool: Pool[None] = Pool(make, limit=2, making=threading.RLock())
    with pytest.raises(Busy, match="closed"):
        pool.use(lambda item: item)


@pytest.mark.parametrize("engine", STORABLE)
def test_weights_that_change_while_threads_call_raise_nothing(engine: str) -> None:
    layer, x = Residual(), paddle.randn([4, 16])
    old = layer.inner.weight.numpy()
    with region_of(layer, engine) as region:
        settled(region, x)
        done = threading.Event()

        def work(number: int) -> None:
            if number == 0:
                for step in range(8):
                    layer.inner.weight.set_value(old * (0.5 + step))
                    for _ in range(4):
                        region(x)
                done.set()
            while not done.is_set():
                region(x)

        together(work)
        settled(region, x)
        assert apart(region(x), layer(x)) < 1e-3 * float(layer(x).abs().max())
        assert region.hybrid_calls


def test_a_thread_that_is_born_during_a_trace_has_dygraph_mode() -> None:
    found: list[Any] = []

    def born() -> None:
        found.append(paddle.in_dynamic_mode())
        found.append(paddle.ones([2]) + 1)

    with contained(), framework._dygraph_guard(None):
        assert not paddle.in_dynamic_mode()
        thread = threading.Thread(target=born)
        thread.start()
        thread.join()
    assert found[0] is True
    assert found[1].numpy().tolist() == [2.0, 2.0]
    assert paddle.in_dynamic_mode()


def test_other_threads_may_print_while_one_converts(capsys: pytest.CaptureFixture[str]) -> None:
    layer, x = Residual(), paddle.randn([4, 16])
    engine = _Interrupted()
    with region_of(layer, "incubate") as region:
        settled(region, x)
    with contained():
        thread = threading.Thread(target=print, args=("a line of the script's",))
        thread.start()
        thread.join()
    del engine
    assert capsys.readouterr().out == "a line of the script's\n"


def test_a_child_forked_while_a_thread_converts_can_convert() -> None:
    with converting_elsewhere():
        child = os.fork()
        if child == 0:
            os._exit(0 if conversion_lock.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("noticed", ["before the call", "too late"])
@pytest.mark.parametrize("recorded", [False, True])
def test_no_call_waits_for_a_conversion_in_another_thread(
    recorded: bool, noticed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x, store = Residual(), paddle.randn([4, 16]), Store(tmp_path / "cache")
    expected = layer(x)
    if recorded:
        with region_of(layer, store=store) as region:
            settled(region, x)
    if noticed == "too late":
        monkeypatch.setattr(region_module, "others_convert", lambda: False)
    with region_of(layer, store=store) as region, ThreadPoolExecutor(1) as pool:
        call = paddle.no_grad()(lambda x: region(x))
        with converting_elsewhere():
            for _ in range(6):
                assert apart(pool.submit(call, x).result(timeout=20), expected) == 0.0
            assert region.hybrid_calls == 0
            why = "another thread is converting" if noticed == "before the call" else "not converted yet"
            assert region.eager_calls == {why: 6}
            assert [variant.state for variant in region.variants] == [State.NEW]
        assert settled(region, x).state is State.SERVING


def test_a_call_that_eager_refuses_while_another_thread_converts_leaves_no_variant() -> None:
    with region_of(Residual()) as region, converting_elsewhere():
        with pytest.raises(ValueError, match=r"(?i)dims|dimension"):
            region(paddle.randn([4, 3]))
        assert region.variants == []


def test_a_pool_whose_items_are_all_in_use_is_busy() -> None:
    pool: Pool[int] = Pool(lambda: 7, limit=1, making=threading.RLock())
    inside, end = threading.Event(), threading.Event()

    def work(item: int) -> int:
        inside.set()
        end.wait()
        return item

    thread = threading.Thread(target=pool.use, args=(work,))
    thread.start()
    inside.wait()
    with pytest.raises(Busy):
        pool.use(lambda item: item)
    end.set()
    thread.join()
    gc.collect()
    assert len(pool) == 0
    assert pool.use(lambda item: item) == 7
    pool.close()
    with pytest.raises(Busy):
        pool.use(lambda item: item)


def test_an_item_is_made_outside_what_other_calls_wait_for() -> None:
    making, made = threading.Event(), threading.Event()
    items = iter(range(2))

    def make() -> int:
        item = next(items)
        if item == 1:
            making.set()
            assert made.wait(20)
        return item

    pool: Pool[int] = Pool(make, limit=2, making=threading.RLock())
    assert pool.use(lambda item: item) == 0
    slow = threading.Thread(target=pool.use, args=(lambda item: item,))
    slow.start()
    making.wait()
    # The second thread is still making its own: this one, and a third one, go on with what is there.
    assert pool.use(lambda item: item) == 0
    with ThreadPoolExecutor(1) as third:
        assert third.submit(pool.use, lambda item: item).result(timeout=20) == 0
    made.set()
    slow.join()


def test_random_numbers_that_other_threads_draw_are_not_held_against_a_region() -> None:
    layer, x = Residual(), paddle.randn([4, 16])
    expected = layer(x)
    ended = threading.Event()

    def draw() -> None:
        while not ended.is_set():
            paddle.rand([2])

    other = threading.Thread(target=draw)
    with region_of(layer) as region:
        other.start()
        try:
            answers = [region(x) for _ in range(8)]
        finally:
            ended.set()
            other.join()
        assert region.hybrid_calls, region.eager_calls
        assert max(apart(answer, expected) for answer in answers) < 1e-4


def test_a_region_that_was_warmed_in_the_parent_serves_in_forked_children() -> None:
    layer, x = Residual(), paddle.randn([4, 16])
    expected = layer(x)

    def serve() -> list[float]:
        before = region.hybrid_calls
        errors = [apart(region(x), expected) for _ in range(5)]
        return [max(errors), region.hybrid_calls - before]

    with region_of(layer) as region:
        settled(region, x)
        for _ in range(3):
            result = Forked().run(serve, seconds=60.0, memory=2 << 30)
            assert isinstance(result, Finished), result
            assert result.value[0] < 1e-4
            assert result.value[1] == 5
        assert apart(region(x), expected) < 1e-4
