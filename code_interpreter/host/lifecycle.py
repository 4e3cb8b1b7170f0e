"""The life of sandboxes: made, found, paused, resumed, timed out, ended, adopted.

Rules of this file:

* A sandbox is changed only by who has claimed it (`Registry.claim`), and only along
  `records.TRANSITIONS`.
* Callers learn of a sandbox when it is ready and stored, and of its end when that is
  stored, its processes are told to end and it cannot be reached any more. What is left of
  it then goes by itself; whoever ends many at once is held up, so that they do not pile up.
* Every task has the owner `Tasks`; every wait for a box has a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from code_interpreter.host.admission import Admission
from code_interpreter.host.adoption import Adoption
from code_interpreter.host.ahead import most_furnished, most_pooled
from code_interpreter.host.boxes import Boxes, Templates, check_template, new_token
from code_interpreter.host.errors import (
    BadRequest,
    Conflict,
    HostFailure,
    NotFound,
    NotReady,
    TooManySandboxes,
)
from code_interpreter.host.expiry import Expiry
from code_interpreter.host.furnishing import Furnishing
from code_interpreter.host.idempotency import Repetitions
from code_interpreter.host.journal import Change, Journal
from code_interpreter.host.limits import LimitPolicy
from code_interpreter.host.pool import Pool, PoolPlan
from code_interpreter.host.records import Phase, Record, now
from code_interpreter.host.registry import Entry, Registry
from code_interpreter.host.runtimes.base import (
    Limits,
    PolicyNotEnforceable,
    RuntimeFailure,
    SandboxRuntime,
)
from code_interpreter.host.settings import Settings
from code_interpreter.host.store import Store
from code_interpreter.host.tasks import Tasks
from code_interpreter.host.warmth import Warmth, languages_of, tell_what_ends
from code_interpreter.host.wishes import Wish, check_timeout

STOP_DEADLINE = 60.0
"""Seconds in which a stopping host removes its sandboxes."""
PAUSE_RETRY = 30
"""Seconds after which an automatic pause that failed is tried again."""
MOST_REMOVALS = 8
"""Removals under way; a call that ends one more waits for its own."""
REMOVAL_PATIENCE = 10.0
"""Seconds that it waits."""
_log = logging.getLogger(__name__)


class Lifecycle:
    """All sandboxes of one host."""

    def __init__(
        self, settings: Settings, runtime: SandboxRuntime, store: Store, templates: Templates
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self.store = store
        self._templates = templates
        self._tasks = Tasks()
        self._making = 0
        self._stopping = False
        self.pool: Pool | None = None
        self._furnishing: Furnishing | None = None
        self._ahead: list[asyncio.Task[None]] = []
        self._repetitions = Repetitions()
        self._expiry = Expiry(self._running, self._tasks, self._time_out)
        self.last_end = time.monotonic()
        """When a sandbox last ended; for hosts that stop when idle."""
        self.registry = Registry(store)
        self.journal = Journal(store)
        self.limits = LimitPolicy(settings, runtime)
        self._machine = Admission(settings, runtime.memory_room)
        self.boxes = Boxes(
            runtime,
            templates,
            self.registry,
            self._tasks,
            settings.data_dir / "run",
            slowness=settings.slowness,
        )
        self._adoption = Adoption(runtime, self.boxes, self._tasks, settings.data_dir)
        self.on_unreachable: Callable[[str], None] = lambda sandbox_id: None
        """Called at the moment from which a sandbox cannot be reached: cut its connections."""

    # --- start and stop -----------------------------------------------------------------

    async def start(self) -> None:
        """Adopt what lives, clean up what does not, begin to watch and to time out."""
        live = await self._adoption.sort(await self.store.load())
        for record in live:
            self._watch(await self.registry.put(record))
            self._repetitions.remember(record)
        self._tasks.spawn(self._introduce_again(live), "introduction of adopted sandboxes")
        self._tasks.spawn(self._expiry.run(), "expiry")
        if self._settings.pool_size:
            self.pool = self._make_pool()
            self._ahead.append(self._tasks.spawn(self.pool.run(), "pool"))
        most = most_furnished(self._settings)
        if most and self._runtime.shares_memory:
            self._furnishing = self._make_furnishing(most)
            self._ahead.append(self._tasks.spawn(self._furnishing.run(), "furnishing"))

    def _make_furnishing(self, most: int) -> Furnishing:
        return Furnishing(
            check_template(self._templates, self._settings.pool_template),
            self.limits.defaults,
            most,
            self.boxes,
            self._machine,
            busy=lambda: self._making > 0,
            pooled=lambda: 0 if self.pool is None else self.pool.wanted(),
        )

    def _make_pool(self) -> Pool:
        plan = PoolPlan(
            check_template(self._templates, self._settings.pool_template),
            self.limits.defaults,
            self._settings.pool_size,
            most_pooled(self._settings),
        )
        warmth = Warmth(
            languages_of(self._settings),
            self._settings.warm_seconds,
            self.boxes,
            self.registry,
            self._machine,
        )
        return Pool(
            plan,
            self.boxes,
            self._runtime,
            self.registry,
            self._templates,
            self._machine,
            warmth,
            busy=lambda: self._making > 0,
        )

    async def stop(self, *, end_sandboxes: bool) -> None:
        """No new sandboxes; with ``end_sandboxes`` the live ones end, else they live on.

        What is not removed in time is on record for the next host.
        """
        self._stopping = True
        self._runtime.stop_making()
        for task in self._ahead:
            task.cancel()
        await self.boxes.finish_making()
        await self._tasks.close()
        entries = self.registry.entries()
        doomed = [entry for entry in entries if end_sandboxes or not entry.is_visible]
        if doomed:
            _log.info("stopping: %d sandboxes end with this host", len(doomed))
        if end_sandboxes:
            self._runtime.hasten()
        for entry in doomed:
            self._tasks.spawn(self._end_with_host(entry), f"end of {entry.record.sandbox_id}")
        await self._tasks.finish(STOP_DEADLINE)
        left = len(self.registry.entries()) - sum(1 for _ in self.registry.visible())
        if left:
            _log.error("%d sandboxes are left to the next host on this data directory", left)

    async def _end_with_host(self, entry: Entry) -> None:
        if entry.is_visible:
            await self._end(entry, "its host stops")
        else:
            await self.boxes.remove(entry.record)

    async def _introduce_again(self, adopted: Iterable[Record]) -> None:
        """Tell their envd and gateway anew: one of them may have come up while nobody was here."""
        for adoptee in adopted:
            record = self.registry.find(adoptee.sandbox_id)
            if record is not None and record.phase is Phase.RUNNING:
                try:
                    await self.boxes.introduce(record)
                except RuntimeFailure as error:
                    _log.error("adopted sandbox %s: %s", record.sandbox_id, error)
                    continue
                self._tasks.spawn(
                    tell_what_ends(record, self._settings.warm_seconds, self.registry),
                    f"unused kernels of {record.sandbox_id}",
                )

    # --- create -------------------------------------------------------------------------

    async def create(self, wish: Wish) -> Record:
        """A running sandbox. Raises `HostError`; then nothing of it is left."""
        if wish.idempotency_key is None:
            return await self._create(wish)
        return await self._repetitions.once(wish, self._create, self.registry.find)

    async def _create(self, wish: Wish) -> Record:
        template = check_template(self._templates, wish.template)
        check_timeout(wish.timeout, self._settings.max_timeout)
        limits = self.limits.choose(wish.limits)
        self._check_internet(wish)
        with self._admission(limits):
            try:
                record = await self._ready_or_new(template, limits, wish)
            except PolicyNotEnforceable as error:
                raise BadRequest(str(error)) from error
            except RuntimeFailure as error:
                _log.error("a sandbox could not be made: %s", error)
                raise HostFailure(f"the sandbox could not be made: {error}") from error
        self._expiry.changed()
        self.journal.note(record, Change.CREATED)
        return record

    async def _ready_or_new(self, template: str, limits: Limits, wish: Wish) -> Record:
        if self._furnishing is not None:
            self._furnishing.note_create()
        ready = await self.pool.take(template, limits) if self.pool else None
        if ready is not None and (record := await self._try(ready, template, wish)):
            return record
        async with self.boxes.turn() as done:
            while (half := await self.boxes.take_furnished(template, limits)) is not None:
                if record := await self._try(half, template, wish):
                    done.append(record)
                    return record
            made = await self.boxes.make(template, limits)
            done.append(await self._introduce(made, template, wish))
        return done[0]

    async def _try(self, ahead: Record, template: str, wish: Wish) -> Record | None:
        """One that was made ahead may have died meanwhile: then None."""
        try:
            return await self._introduce(ahead, template, wish)
        except RuntimeFailure as error:
            _log.warning("a sandbox that was made ahead was of no use: %s", error)
            return None

    def _check_internet(self, wish: Wish) -> None:
        if wish.cuts_internet and not self._runtime.cuts_internet:
            raise BadRequest(
                f"the runtime {self._runtime.name!r} cannot keep a sandbox off the internet: leave "
                "allow_internet_access and deny_out out, or use the runtime 'namespaces'"
            )

    def disk_shortage(self) -> str | None:
        """Why the disk has no room for another sandbox as they are by default; or None."""
        return self._machine.disk_shortage(self.limits.defaults)

    def _check_room(self, limits: Limits) -> None:
        """What is made ahead is room, too: one of those boxes is taken, or they give way."""
        if self._machine.had_room(limits):
            return
        held = 0
        if self.pool is not None:
            self.pool.look_again()
            held += self.pool.state().memory_bytes
        if self._furnishing is not None:
            self._furnishing.look_again()
            held += self._furnishing.memory_bytes()
        self._machine.check(limits, reclaimable=held)

    @contextmanager
    def _admission(self, limits: Limits) -> Iterator[None]:
        if self._stopping:
            raise NotReady("this host is stopping")
        if len(self.registry) + self._making >= self._settings.max_sandboxes:
            raise TooManySandboxes(
                f"this host runs its maximum of {self._settings.max_sandboxes} sandboxes; end "
                "some, or start it with a higher CODE_INTERPRETER_MAX_SANDBOXES"
            )
        self._check_room(limits)
        self._making += 1
        try:
            with self._machine.making():
                yield
        finally:
            self._making -= 1

    async def _introduce(self, made: Record, template: str, wish: Wish) -> Record:
        try:
            has_internet = not self._runtime.cuts_internet
            record = _granted(made, template, wish, has_internet=has_internet)
            told = made if made.phase is Phase.POOLED else None
            await self.boxes.introduce(record, told)
            self._watch(await self.registry.put(record))
        except BaseException:
            await self.boxes.discard_shielded(made)
            raise
        return record

    # --- change -------------------------------------------------------------------------

    async def kill(self, sandbox_id: str) -> None:
        """End a sandbox. Raises `NotFound`, `Conflict`."""
        async with self.registry.claim(sandbox_id) as entry:
            await self._end(entry, "sandbox ended")

    async def set_timeout(self, sandbox_id: str, seconds: int) -> None:
        """The sandbox ends so many seconds from now. Raises `HostError`."""
        check_timeout(seconds, self._settings.max_timeout, least=0)
        async with self.registry.claim(sandbox_id) as entry:
            _check_running(entry.record)
            await self.registry.put(entry.record.lasting(seconds))
            self.journal.note(entry.record, Change.UPDATED)
        self._expiry.changed()

    async def extend(self, sandbox_id: str, seconds: int) -> None:
        """Like `set_timeout`, but never makes it shorter."""
        check_timeout(seconds, self._settings.max_timeout, least=0)
        async with self.registry.claim(sandbox_id) as entry:
            _check_running(entry.record)
            await self._extend(entry, seconds)

    async def connect(
        self, sandbox_id: str, seconds: int, *, memory: bool = True
    ) -> tuple[Record, bool]:
        """The sandbox, running for at least so long, and whether it had to be resumed."""
        check_timeout(seconds, self._settings.max_timeout)
        async with self.registry.claim(sandbox_id) as entry:
            if entry.record.phase is Phase.RUNNING:
                return await self._extend(entry, seconds), False
            if not memory:
                raise BadRequest("a resume without memory is not supported by this host")
            return await self._resume(entry, seconds), True

    async def pause(self, sandbox_id: str) -> None:
        """Stop the sandbox in memory. Raises `Conflict` if it is paused."""
        async with self.registry.claim(sandbox_id) as entry:
            _check_running(entry.record)
            await self._pause(entry)

    async def wake(self, sandbox_id: str) -> None:
        """Resume for traffic, with the time-out that it was made with."""
        async with self.registry.claim(sandbox_id) as entry:
            if entry.record.phase is Phase.PAUSED:
                await self._resume(entry, entry.record.timeout)

    # --- steps, by who has claimed the sandbox ------------------------------------------

    async def _extend(self, entry: Entry, seconds: int) -> Record:
        longer = entry.record.lasting(seconds)
        if longer.end_at > entry.record.end_at:
            await self.registry.put(longer)
            self.journal.note(longer, Change.UPDATED)
            self._expiry.changed()
        return entry.record

    async def _pause(self, entry: Entry) -> None:
        record = await self.registry.move(entry, Phase.PAUSING)
        await self.boxes.announce_pause(record)
        try:
            await self._runtime.pause(record.live_box)
        except RuntimeFailure as error:
            await self.registry.move(entry, Phase.RUNNING)
            raise HostFailure(
                f"sandbox {record.sandbox_id} could not be paused: {error}"
            ) from error
        await self.registry.put(replace(record.moved(Phase.PAUSED), end_at=now()))
        self.on_unreachable(record.sandbox_id)
        self.journal.note(record, Change.PAUSED)

    async def _resume(self, entry: Entry, seconds: int) -> Record:
        record = await self.registry.move(entry, Phase.RESUMING)
        try:
            await self._runtime.resume(record.live_box)
        except RuntimeFailure as error:
            await self.registry.move(entry, Phase.PAUSED)
            raise HostFailure(
                f"sandbox {record.sandbox_id} could not be resumed: {error}"
            ) from error
        await self.registry.put(record.moved(Phase.RUNNING).lasting(seconds))
        self._expiry.changed()
        self.journal.note(record, Change.RESUMED)
        return entry.record

    async def _end(self, entry: Entry, message: str) -> None:
        """Nobody can reach it any more; its processes and files go while others go on."""
        if entry.watcher is not None:
            entry.watcher.cancel()
        record = entry.record
        if record.phase is not Phase.ENDING:
            record = await self.registry.move(entry, Phase.ENDING)
        self.on_unreachable(record.sandbox_id)
        self.last_end = time.monotonic()
        self.journal.note(record, Change.KILLED)
        try:
            await self._runtime.halt(record.live_box)
        except (RuntimeFailure, OSError) as error:
            _log.error("sandbox %s: %s", record.sandbox_id, error)
        _log.info("%s: %s", record.sandbox_id, message)
        removal = self._tasks.spawn(self.boxes.remove(record), f"end of {record.sandbox_id}")
        if self.boxes.removals > MOST_REMOVALS:
            await asyncio.wait({removal}, timeout=REMOVAL_PATIENCE)

    # --- by themselves ------------------------------------------------------------------

    def _running(self) -> Iterator[Record]:
        return (record for record in self.registry.visible() if record.phase is Phase.RUNNING)

    async def _time_out(self, sandbox_id: str) -> None:
        with suppress(NotFound):
            async with self.registry.claim(sandbox_id) as entry:
                if entry.record.phase is not Phase.RUNNING or entry.record.end_at > now():
                    return
                if not entry.record.auto_pause:
                    await self._end(entry, "time-out")
                    return
                try:
                    await self._pause(entry)
                except HostFailure as error:
                    _log.error("%s; its state is kept, and it is tried again", error)
                    await self.registry.put(entry.record.lasting(PAUSE_RETRY))

    def _watch(self, entry: Entry) -> None:
        sandbox_id = entry.record.sandbox_id
        entry.watcher = self._tasks.spawn(self._see_it_die(sandbox_id), f"watch {sandbox_id}")

    async def _see_it_die(self, sandbox_id: str) -> None:
        record = self.registry.get(sandbox_id)
        await self._runtime.wait(record.live_box)
        _log.warning("sandbox %s has died by itself", sandbox_id)
        self._tasks.spawn(self._bury(sandbox_id), f"burial of {sandbox_id}")

    async def _bury(self, sandbox_id: str) -> None:
        with suppress(NotFound):
            async with self.registry.claim(sandbox_id) as entry:
                await self._end(entry, "died by itself")


def _granted(made: Record, template: str, wish: Wish, *, has_internet: bool) -> Record:
    """The record of the box with what the caller asked for and got, and its tokens."""
    started = now()
    return replace(
        made.moved(Phase.RUNNING),
        template=template,
        box=replace(made.live_box, template=template),
        started_at=started,
        end_at=started + timedelta(seconds=wish.timeout),
        timeout=wish.timeout,
        access_token=made.access_token or new_token(),
        traffic_token=new_token() if wish.private_traffic else None,
        metadata=wish.metadata,
        env_vars=wish.env_vars,
        auto_pause=wish.auto_pause,
        auto_resume=wish.auto_resume,
        allow_internet_access=has_internet,
        network=wish.network,
        idempotency_key=wish.idempotency_key,
        request_digest=wish.digest,
    )


def _check_running(record: Record) -> None:
    if record.phase is not Phase.RUNNING:
        raise Conflict(f"sandbox {record.sandbox_id} is paused; connect to it to resume it")
