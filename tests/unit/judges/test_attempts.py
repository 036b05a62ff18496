"""Waiting and giving up, without a server."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editr1.judges.attempts import Breaker, backoff, retry_after, shorten


@given(st.integers(0, 1000), st.floats(0.001, 8.0))
def test_waits_double_up_to_a_limit_and_never_vanish(attempt, base):
    wait = backoff(attempt, base)
    whole = min(base * 2.0**attempt, 8.0)
    assert whole / 2 <= wait <= whole


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3), ("0.5", 0.5), ("-4", 0), ("nan", None), ("inf", None), ("soon", None), ("", None)]
)
def test_retry_after_in_seconds(value, seconds):
    assert retry_after({"retry-after": value}) == seconds
    assert retry_after({}) is None


def test_retry_after_as_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after({"retry-after": later}) == pytest.approx(30, abs=2)
    earlier = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    assert retry_after({"retry-after": earlier}) == 0


@given(st.text(), st.integers(4, 50))
def test_shortened_text_is_one_short_line(text, limit):
    line = shorten(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


class TestBreaker:
    def run(self, scenario):
        breaker = Breaker(3)

        async def main():
            return await scenario(breaker)

        return asyncio.run(main())

    def test_only_failures_in_a_row_open_it(self):
        async def scenario(breaker):
            for _ in range(10):
                breaker.absent("gone")
                breaker.absent("gone")
                breaker.answered()
            before = breaker.open
            for _ in range(3):
                breaker.absent("gone")
            return before, breaker.open, breaker.reason

        assert self.run(scenario) == (False, True, "gone")

    def test_opening_ends_waits(self):
        async def scenario(breaker):
            start = time.perf_counter()
            waits = [asyncio.create_task(breaker.wait(30)) for _ in range(5)]
            await asyncio.sleep(0.01)
            for _ in range(3):
                breaker.absent("gone")
            await asyncio.gather(*waits)
            return time.perf_counter() - start

        assert self.run(scenario) < 5

    def test_the_next_batch_is_on_trial_until_somebody_answers(self):
        async def scenario(breaker):
            for _ in range(3):
                breaker.absent("gone")
            breaker = breaker.next()
            states = [(breaker.trial, breaker.open)]
            breaker.absent("still gone")
            states.append((breaker.trial, breaker.open))
            breaker = breaker.next()
            breaker.answered()
            breaker.absent("once")
            states.append((breaker.trial, breaker.open))
            return states

        assert self.run(scenario) == [(True, False), (True, True), (False, False)]

    def test_patience_counts_from_the_last_answer(self):
        async def scenario(breaker):
            breaker.busy("full", 0.2)
            early = breaker.open
            await asyncio.sleep(0.15)
            breaker.answered()
            await asyncio.sleep(0.15)
            breaker.busy("full", 0.2)
            since_answer = breaker.open
            await asyncio.sleep(0.1)
            breaker.busy("full", 0.2)
            return early, since_answer, breaker.open, breaker.reason

        assert self.run(scenario) == (False, False, True, "full, for 0.2 s")
