import asyncio
import threading

import pytest
from PIL import Image

from editr1 import Category, Check, Principle, Verifier
from editr1.errors import ConfigError
from editr1.judges import ScriptedJudge
from editr1.serving.batching import Batcher, BusyError, ClosedError
from editr1.verifier.render import format_answer

PRINCIPLES = (Principle("Is it red?", Category.FOLLOW),)
BLUE, RED = Image.new("RGB", (8, 6), "blue"), Image.new("RGB", (8, 6), "red")
ANSWER = format_answer("Looked.", [Check(PRINCIPLES[0], True, "it is")], 5.0, echo_question=True)


def items(*ids):
    return [{"id": i, "source": BLUE, "edited": RED, "instruction": "do", "principles": PRINCIPLES} for i in ids]


class HeldJudge(ScriptedJudge):
    """Waits in its first call until it is let go, and notes how many requests each call had."""

    def __init__(self, **options):
        super().__init__(lambda request: ANSWER, **options)
        self.calls, self.begun, self.go_on = [], threading.Event(), threading.Event()

    def chat(self, requests, *, on_reply=None):
        self.calls.append(len(requests))
        self.begun.set()
        assert self.go_on.wait(30)
        return super().chat(requests, on_reply=on_reply)


def run(judge, scenario, **options):
    async def main():
        batcher = Batcher(Verifier(judge, max_tries=1), **{"window": 0.0} | options)
        batcher.start()
        try:
            return await scenario(batcher)
        finally:
            if hasattr(judge, "go_on"):
                judge.go_on.set()
            await batcher.close()

    return asyncio.run(main())


async def until(event):
    await asyncio.to_thread(event.wait, 30)


def test_what_arrives_while_the_judge_is_busy_is_judged_together():
    judge = HeldJudge()

    async def scenario(batcher):
        first = asyncio.create_task(batcher.score(items("a"), timeout=30))
        await until(judge.begun)
        rest = [asyncio.create_task(batcher.score(items(f"{n}x", f"{n}y"), timeout=30)) for n in range(3)]
        await asyncio.sleep(0)
        assert batcher.pending == 7
        judge.go_on.set()
        return [[v.id for v in verdicts] for verdicts in await asyncio.gather(first, *rest)]

    assert run(judge, scenario) == [["a"], ["0x", "0y"], ["1x", "1y"], ["2x", "2y"]]
    assert judge.calls == [1, 6]


def test_an_idle_service_waits_for_company_and_no_batch_is_too_large():
    judge = HeldJudge()
    judge.go_on.set()

    async def scenario(batcher):
        await asyncio.gather(*(batcher.score(items(f"{n}", f"{n}'"), timeout=30) for n in range(5)))
        assert batcher.batches == len(judge.calls)
        assert batcher.counts == {"ok": 10}

    run(judge, scenario, window=0.05, max_batch=4)
    assert judge.calls == [4, 4, 2]


def test_a_judge_that_breaks_down_fails_what_was_not_finished():
    judge = HeldJudge(fail_after=2)
    judge.go_on.set()

    async def scenario(batcher):
        broken = await batcher.score(items("a", "b", "c"), timeout=30)
        again = await batcher.score(items("d"), timeout=30)
        return broken, again

    broken, again = run(judge, scenario)
    assert [v.status.value for v in broken] == ["ok", "ok", "error"]
    assert (broken[2].id, again[0].id) == ("c", "d")
    assert "the judge broke down: scripted breaks down after 2" in broken[2].error


def test_a_bug_in_the_judge_is_a_sentence_and_the_service_lives(caplog):
    lines = iter([ZeroDivisionError("secret"), None])

    def reply(request):
        error = next(lines)
        if error:
            raise error
        return ANSWER

    async def scenario(batcher):
        return [(await batcher.score(items("a"), timeout=30))[0] for _ in range(2)]

    bad, good = run(ScriptedJudge(reply), scenario)
    assert bad.error == "the service failed (ZeroDivisionError); its log says where"
    assert good.ok
    assert "secret" in caplog.text


def test_what_takes_too_long_times_out_and_what_had_not_begun_never_does():
    judge = HeldJudge()

    async def scenario(batcher):
        first = asyncio.create_task(batcher.score(items("a"), timeout=30))
        await until(judge.begun)
        late = await batcher.score(items("b"), timeout=0.01)
        assert batcher.pending == 1
        judge.go_on.set()
        await first
        await batcher.score(items("c"), timeout=30)
        return late[0]

    late = run(judge, scenario)
    assert (late.status.value, late.id, late.score) == ("timeout", "b", None)
    assert judge.calls == [1, 1]


def test_a_request_that_was_given_up_is_not_judged():
    judge = HeldJudge()

    async def scenario(batcher):
        first = asyncio.create_task(batcher.score(items("a"), timeout=30))
        await until(judge.begun)
        gone = asyncio.create_task(batcher.score(items("b"), timeout=30))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert batcher.pending == 1
        judge.go_on.set()
        await first
        await batcher.score(items("c"), timeout=30)

    run(judge, scenario)
    assert judge.calls == [1, 1]


def test_too_many_waiting_are_turned_away():
    judge = HeldJudge()

    async def scenario(batcher):
        first = asyncio.create_task(batcher.score(items("a", "b", "c"), timeout=30))  # more than 2, but alone
        await until(judge.begun)
        with pytest.raises(BusyError, match="3 edits wait"):
            await batcher.score(items("d"), timeout=30)
        judge.go_on.set()
        assert len(await first) == 3
        assert (await batcher.score(items("e"), timeout=30))[0].ok

    run(judge, scenario, max_waiting=2)


def test_closing_finishes_the_batch_under_way_and_tells_the_rest():
    judge = HeldJudge()

    async def scenario(batcher):
        first = asyncio.create_task(batcher.score(items("a"), timeout=30))
        await until(judge.begun)
        second = asyncio.create_task(batcher.score(items("b"), timeout=30))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            await batcher.score(items("c"), timeout=30)
        judge.go_on.set()
        await closing
        return (await first)[0], (await second)[0]

    first, second = run(judge, scenario)
    assert first.ok
    assert (second.status.value, second.id, second.error) == ("error", "b", "the service was shut down")


class SlowFirst(ScriptedJudge):
    """Its first call waits until it is let go; others answer at once."""

    def __init__(self):
        super().__init__(lambda request: ANSWER)
        self.calls, self.begun, self.go_on = 0, threading.Event(), threading.Event()

    def chat(self, requests, *, on_reply=None):
        self.calls += 1
        if self.calls == 1:
            self.begun.set()
            assert self.go_on.wait(30)
        return super().chat(requests, on_reply=on_reply)


def test_a_slow_answer_holds_up_its_own_batch_only():
    judge = SlowFirst()

    async def scenario(batcher):
        slow = asyncio.create_task(batcher.score(items("slow"), timeout=30))
        await until(judge.begun)
        quick = [(await batcher.score(items(f"{n}"), timeout=30))[0] for n in range(3)]
        assert (slow.done(), batcher.pending) == (False, 1)
        judge.go_on.set()
        return quick, (await slow)[0]

    quick, slow = run(judge, scenario, parallel=2)
    assert [v.id for v in quick if v.ok] == ["0", "1", "2"]
    assert (slow.id, slow.ok) == ("slow", True)


def test_no_more_batches_at_a_time_than_asked_for_and_the_rest_gathers():
    judge = HeldJudge()

    async def scenario(batcher):
        tasks = []
        for n in range(5):
            tasks.append(asyncio.create_task(batcher.score(items(f"{n}"), timeout=30)))
            await asyncio.sleep(0.02)
        assert len(judge.calls) == 2
        judge.go_on.set()
        await asyncio.gather(*tasks)

    run(judge, scenario, parallel=2)
    assert judge.calls == [1, 1, 3]


def test_closing_waits_for_all_batches_under_way():
    judge = HeldJudge()

    async def scenario(batcher):
        tasks = []
        for n in range(2):
            tasks.append(asyncio.create_task(batcher.score(items(f"{n}"), timeout=30)))
            await asyncio.sleep(0.02)
        assert len(judge.calls) == 2
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        judge.go_on.set()
        await closing
        return [(await task)[0] for task in tasks]

    assert [v.ok for v in run(judge, scenario, parallel=2)] == [True, True]


def test_no_batches_at_a_time_is_refused():
    with pytest.raises(ConfigError, match="parallel must be at least 1, got 0"):
        Batcher(Verifier(ScriptedJudge(lambda request: ANSWER)), parallel=0)
