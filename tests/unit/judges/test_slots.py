import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editr1.judges.slots import Slots


class Gauge:
    """How many are under way, over all threads."""

    def __init__(self):
        self.now = self.most = self.done = 0
        self.lock = threading.Lock()

    async def hold(self, slots, seconds=0.002):
        async with slots.one():
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            await asyncio.sleep(seconds)
            with self.lock:
                self.now -= 1
                self.done += 1


def in_threads(count, work):
    failures = []

    def body():
        try:
            asyncio.run(work())
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a slot was lost"
    assert not failures


@settings(max_examples=15, deadline=None)
@given(limit=st.integers(1, 5), threads=st.integers(1, 4), tasks=st.integers(1, 8))
def test_no_more_than_the_limit_whichever_loop_they_are_of(limit, threads, tasks):
    slots, gauge = Slots(limit), Gauge()

    async def work():
        await asyncio.gather(*(gauge.hold(slots) for _ in range(tasks)))

    in_threads(threads, work)
    assert gauge.done == threads * tasks
    assert 1 <= gauge.most <= limit


@settings(max_examples=15, deadline=None)
@given(cancelled=st.lists(st.booleans(), min_size=2, max_size=8), early=st.booleans())
def test_a_cancelled_task_keeps_no_slot(cancelled, early):
    async def main():
        slots, gauge = Slots(1), Gauge()
        tasks = [asyncio.create_task(gauge.hold(slots)) for _ in cancelled]
        await asyncio.sleep(0 if early else 0.003)
        for task, gone in zip(tasks, cancelled, strict=True):
            if gone:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(gauge.hold(slots), 5)

    asyncio.run(main())


def test_a_slot_that_was_on_its_way_to_a_cancelled_task_goes_on_to_the_next():
    async def main():
        slots, order = Slots(1), []

        async def take(name):
            async with slots.one():
                order.append(name)

        async with slots.one():
            second = asyncio.create_task(take("second"))
            third = asyncio.create_task(take("third"))
            await asyncio.sleep(0)
        second.cancel()  # between the hand-over, which is scheduled, and its turn
        await asyncio.gather(second, third, return_exceptions=True)
        return order

    assert asyncio.run(asyncio.wait_for(main(), 5)) == ["third"]


def test_a_loop_that_is_gone_is_passed_over():
    slots = Slots(1)

    async def leave_waiting():
        task = asyncio.create_task(slots._acquire())
        await asyncio.sleep(0)
        return task

    async def main():
        async with slots.one():
            loop = asyncio.new_event_loop()
            await asyncio.to_thread(loop.run_until_complete, leave_waiting())
            loop.close()
        await asyncio.wait_for(slots._acquire(), 5)

    asyncio.run(main())


def test_who_waits_longest_comes_first():
    async def main():
        slots, order = Slots(1), []

        async def take(name):
            async with slots.one():
                order.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(*(take(n) for n in range(5)))
        return order

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
def test_a_block_that_fails_gives_its_slot_back(error):
    async def main():
        slots = Slots(1)
        with pytest.raises(error):
            async with slots.one():
                raise error
        async with asyncio.timeout(5), slots.one():
            return True

    assert asyncio.run(main())
