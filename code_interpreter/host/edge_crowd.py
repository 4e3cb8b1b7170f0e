"""All connections of clients, and which of them have to go when there are too many.

Whoever holds many connections loses the oldest of those that are of no use to anybody
first: somebody with three thousand half-sent requests does not keep others out.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import Generic, Protocol, TypeVar

MOST_CLIENTS = 8192
MOST_SLOW = 128
"""Connections with a part of a head: each may hold `edge_http.MAX_HEAD_BYTES`."""
SHARES = 4
"""One sandbox has at most such a part of all connections: others are reached as well."""
_DESCRIPTORS_EACH = 2
_DESCRIPTORS_FOR_OTHERS = 256


class Mood(Enum):
    """What the host does for a connection."""

    BUSY = "a request is under way"
    IDLE = "nothing is under way"
    SLOW = "a part of a request's head has come"
    LEAVING = "it is being closed"


class Member(Protocol):
    """A connection of a client."""

    peer: str
    """The address it comes from."""

    def turn_away(self) -> None:
        """Close it, with a word on why if it waits for an answer."""


M = TypeVar("M", bound=Member)


class Crowd(Generic[M]):
    """Knows every connection's mood. At most `most` of them, and `most_slow` slow ones."""

    def __init__(self) -> None:
        self.most = min(MOST_CLIENTS, _room_for_clients())
        self.most_slow = MOST_SLOW
        self.shares = Shares(max(1, self.most // SHARES))
        self._moods: dict[M, Mood] = {}
        self._leaving = 0
        self._by_peer: dict[Mood, _ByPeer[M]] = {mood: _ByPeer() for mood in (Mood.IDLE, Mood.SLOW)}

    def __iter__(self) -> Iterator[M]:
        return iter(list(self._moods))

    def __len__(self) -> int:
        return len(self._moods)

    def admit(self, member: M) -> bool:
        """Whether it may stay; then another that nobody needs may have had to go."""
        full = len(self._moods) - self._leaving >= self.most
        may_stay = not full or self._make_room()
        self._enter(member, Mood.IDLE if may_stay else Mood.LEAVING)
        return may_stay

    def note(self, member: M, mood: Mood) -> None:
        """The mood of a member now; one that leaves stays so."""
        if self._moods.get(member) in (None, mood, Mood.LEAVING):
            return
        self.discard(member)
        self._enter(member, mood)
        if mood is Mood.SLOW and self._by_peer[mood].count > self.most_slow:
            self._turn_away(self._by_peer[mood].oldest_of_most())

    def discard(self, member: M) -> None:
        mood = self._moods.pop(member, None)
        if mood is Mood.LEAVING:
            self._leaving -= 1
        elif mood in self._by_peer:
            self._by_peer[mood].discard(member)

    def _enter(self, member: M, mood: Mood) -> None:
        self._moods[member] = mood
        if mood is Mood.LEAVING:
            self._leaving += 1
        elif mood in self._by_peer:
            self._by_peer[mood].add(member)

    def _make_room(self) -> bool:
        for mood in (Mood.SLOW, Mood.IDLE):
            if self._by_peer[mood].count:
                self._turn_away(self._by_peer[mood].oldest_of_most())
                return True
        return False

    def _turn_away(self, member: M) -> None:
        self.note(member, Mood.LEAVING)
        member.turn_away()


class Shares:
    """How many requests, WebSockets among them, are under way for each sandbox."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: Counter[str] = Counter()

    def take(self, sandbox_id: str) -> bool:
        """Whether there may be one more; then `give_back` it."""
        if self._held[sandbox_id] >= self.most:
            return False
        self._held[sandbox_id] += 1
        return True

    def give_back(self, sandbox_id: str) -> None:
        self._held[sandbox_id] -= 1
        if not self._held[sandbox_id]:
            del self._held[sandbox_id]


class _ByPeer(Generic[M]):
    """Members of one mood, the oldest first."""

    def __init__(self) -> None:
        self.count = 0
        self._members: dict[str, dict[M, None]] = {}

    def add(self, member: M) -> None:
        self._members.setdefault(member.peer, {})[member] = None
        self.count += 1

    def discard(self, member: M) -> None:
        members = self._members[member.peer]
        del members[member]
        self.count -= 1
        if not members:
            del self._members[member.peer]

    def oldest_of_most(self) -> M:
        """The oldest member of the peer that has most of them."""
        peer = max(self._members, key=lambda peer: len(self._members[peer]))
        return next(iter(self._members[peer]))


def _room_for_clients() -> int:
    """Each client takes a descriptor, and one more of the server it talks to."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (soft - _DESCRIPTORS_FOR_OTHERS) // _DESCRIPTORS_EACH)
