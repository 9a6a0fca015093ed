"""Groups of tasks: they start at once, and none outlives its group."""

import asyncio
from typing import Any

import pytest
from loops import run

from zarrs.runtime._task_group import TaskGroup


def test_requests_limit() -> None:
    async def main() -> None:
        running, peak, ended = 0, 0, 0
        left = iter(range(20))

        async def one(_: int) -> None:
            nonlocal running, peak, ended
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0.002)
            running -= 1
            ended += 1

        def go_on() -> None:
            while not requests.is_full and (i := next(left, None)) is not None:
                requests.begin(one(i))

        requests = TaskGroup(3, go_on)
        go_on()
        assert len(requests) == 3
        assert requests.is_full
        await forever(requests)
        assert (running, peak, ended) == (0, 3, 20)
        await requests.drain(cancel=True)

    run(main)


async def forever(requests: TaskGroup) -> None:
    """Wait until all have ended, as calls do."""
    while requests:
        await requests.news()


@pytest.mark.parametrize("cancel", [False, True])
def test_requests_after_an_error(cancel: bool) -> None:
    """The first error is raised, no other is begun, all have ended after `drain`."""

    async def main() -> None:
        ended: list[Any] = []
        begun = 0

        async def one(i: int) -> None:
            nonlocal begun
            begun += 1
            try:
                await asyncio.sleep(0.01 * (i + 1))
                if i in (1, 2):
                    raise ValueError(i)
                ended.append(i)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)  # takes its time
                ended.append("cancelled")
                raise

        requests = TaskGroup(10, lambda: None)
        for i in range(6):
            requests.begin(one(i))
        assert not requests.is_full
        with pytest.raises(ValueError, match="1"):
            await forever(requests)
        assert requests.is_full
        await requests.drain(cancel=cancel)
        assert len(requests) == 0
        assert begun == 6
        assert ended == [0, *(["cancelled"] * 4 if cancel else [3, 4, 5])]
        with pytest.raises(ValueError, match="1"):
            requests.check()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


def test_a_cancelled_request_is_an_error() -> None:
    """A store that cancels its own request does not make the call wait for ever."""

    async def main() -> None:
        async def one() -> None:
            raise asyncio.CancelledError

        requests = TaskGroup(2, lambda: None)
        requests.begin(one())
        with pytest.raises(asyncio.CancelledError):
            await requests.news()
        await requests.drain(cancel=True)

    run(main)


def test_an_error_in_going_on_is_raised() -> None:
    """What cannot begin the next request must not make the call wait for ever."""

    async def main() -> None:
        def go_on() -> None:
            raise MemoryError("no memory for another")

        async def one() -> None:
            await asyncio.sleep(0.001)

        requests = TaskGroup(2, go_on)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        requests.begin(one())
        with pytest.raises(MemoryError):
            async with asyncio.timeout(2):
                await requests.news()

    run(main)


@pytest.mark.parametrize("times", [2, 3])
def test_a_drain_that_is_cancelled(times: int) -> None:
    """It still waits: what is under way works with memory and locks of the caller's."""

    async def main() -> None:
        ended: list[int] = []

        async def one(i: int) -> None:
            await asyncio.sleep(0.05)
            ended.append(i)

        requests = TaskGroup(5, lambda: None)

        async def call() -> None:
            for i in range(3):
                requests.begin(one(i))
            try:
                await forever(requests)
            finally:
                await requests.drain(cancel=False)

        task = asyncio.create_task(call())
        for _ in range(times):
            await asyncio.sleep(0.005)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [0, 1, 2]

    run(main)
