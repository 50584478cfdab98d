"""Count cycles while the emulator runs: hooks.c where a C compiler is at hand, the same rules in Python elsewhere.

The C hooks run some 30 million instructions a second, the Python ones some hundred thousand; both count the same.
"""

import ctypes
import hashlib
from typing import Any

from trec_dse import toolchain
from trec_dse.errors import ToolchainError
from trec_dse.resources import cache_folder, package_folder
from trec_dse.twin.counter import Counter, Learn, Refuse
from trec_dse.twin.decode import Exit
from trec_dse.twin.engine import Engine, UcError, unicorn
from trec_dse.twin.places import Places, Steps, Tally
from trec_dse.twin.timing import Block, CoreTiming
from trec_dse.twin.waits import Cache

MAX_DATA_RANGES = 4
STRONGLY_TAKEN = 3
WEAKLY_TAKEN = 2


class _CBlock(ctypes.Structure):
    _fields_ = (
        ("aligned", ctypes.c_uint64),
        ("end", ctypes.c_uint32),
        ("cycles", ctypes.c_uint32),
        ("n_instructions", ctypes.c_uint32),
        ("last_target", ctypes.c_uint32),
        ("exit", ctypes.c_uint8),
        ("starts_misaligned", ctypes.c_uint8),
        ("predictor", ctypes.c_uint8),
        ("unused", ctypes.c_uint8),
        ("function", ctypes.c_uint32),
    )


class _CCache(ctypes.Structure):
    _fields_ = (
        ("tags", ctypes.POINTER(ctypes.c_uint32)),
        ("n_sets", ctypes.c_uint32),
        ("n_ways", ctypes.c_uint32),
        ("line_shift", ctypes.c_uint32),
        ("miss", ctypes.c_uint32),
        ("reads_ahead", ctypes.c_uint32),
        ("latest", ctypes.c_uint32),
    )


class _CTally(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cycles", "n_instructions", "code_stalls", "data_stalls"))


class _CProfile(ctypes.Structure):
    _fields_ = (
        ("tallies", ctypes.POINTER(_CTally)),
        ("now", ctypes.POINTER(_CTally)),
        ("n_steps", ctypes.c_uint32),
        ("n_functions", ctypes.c_uint32),
        ("run_first", ctypes.c_uint32),
        ("run_bytes", ctypes.c_uint32),
        ("run_return", ctypes.c_uint32),
        ("step", ctypes.c_uint32),
        ("is_inside", ctypes.c_uint32),
    )


_LearnPointer = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32)
_RefusePointer = ctypes.CFUNCTYPE(None, ctypes.c_uint32)


class _CState(ctypes.Structure):
    _fields_ = (
        ("cycles", ctypes.c_uint64),
        ("n_instructions", ctypes.c_uint64),
        ("n_code_misses", ctypes.c_uint64),
        ("n_data_misses", ctypes.c_uint64),
        ("n_unaligned", ctypes.c_uint64),
        ("blocks", ctypes.POINTER(_CBlock)),
        ("previous", ctypes.POINTER(_CBlock)),
        ("learn", _LearnPointer),
        ("refuse", _RefusePointer),
        ("code_origin", ctypes.c_uint32),
        ("code_size", ctypes.c_uint32),
        ("taken", ctypes.c_uint32),
        ("indirect", ctypes.c_uint32),
        ("misaligned", ctypes.c_uint32),
        ("mispredicted", ctypes.c_uint32),
        ("unaligned", ctypes.c_uint32),
        ("never_unaligned", ctypes.c_uint32),
        ("is_unified", ctypes.c_uint32),
        ("n_accesses", ctypes.c_uint32),
        ("n_data_ranges", ctypes.c_uint32),
        ("data_first", ctypes.c_uint32 * MAX_DATA_RANGES),
        ("data_behind", ctypes.c_uint32 * MAX_DATA_RANGES),
        ("code", _CCache),
        ("data", _CCache),
        ("profile", _CProfile),
    )


class NativeCounter:
    """The rules of hooks.c. `code_range`: (first, behind) addresses of the code that is timed."""

    def __init__(self, timing: CoreTiming, code_range: tuple[int, int], learn: Learn, refuse: Refuse) -> None:
        self._library = _load_hooks()
        self._learn = learn
        first, behind = code_range
        self._blocks = (_CBlock * ((behind - first) // 2 + 1))()
        self._tags: list[Any] = []
        self._learned: set[int] = set()
        self._first = first
        self._places: Places | None = None
        self._state = _CState(
            blocks=self._blocks,
            learn=_LearnPointer(self._fill),
            refuse=_RefusePointer(refuse),
            code_origin=first,
            code_size=behind - first,
            taken=timing.taken,
            indirect=timing.indirect,
            misaligned=timing.misaligned,
            mispredicted=timing.mispredicted,
            unaligned=timing.unaligned,
            never_unaligned=timing.never_unaligned,
            is_unified=timing.is_unified,
            n_data_ranges=len(timing.data_ranges),
            data_first=tuple(pair[0] for pair in timing.data_ranges),
            data_behind=tuple(pair[1] for pair in timing.data_ranges),
            code=self._cache(timing.code),
            data=self._cache(timing.data),
        )

    @property
    def cycles(self) -> int:
        """Raw cycles so far, the block under way included."""
        return int(self._state.cycles)

    @property
    def n_instructions(self) -> int:
        """Instructions so far, the block under way included."""
        return int(self._state.n_instructions)

    @property
    def latest(self) -> int | None:
        """Address of the block under way; None in code that is not timed."""
        if not self._state.previous:
            return None
        distance = ctypes.addressof(self._state.previous.contents) - ctypes.addressof(self._blocks)
        return self._first + distance // ctypes.sizeof(_CBlock) * 2

    def attach(self, engine: Engine) -> None:
        """Start to count what this engine executes."""
        # The binding wraps Python functions only; pointers into our own library go to the C interface itself.
        add = ctypes.CDLL(_unicorn_library()).uc_hook_add
        state = ctypes.cast(ctypes.pointer(self._state), ctypes.c_void_p)
        everywhere = (ctypes.c_uint64(1), ctypes.c_uint64(0))
        memory = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
        for kind, hook in ((unicorn.UC_HOOK_BLOCK, "twin_on_block"), (memory, "twin_on_access")):
            function = ctypes.cast(getattr(self._library, hook), ctypes.c_void_p)
            handle = ctypes.c_size_t()
            code = add(engine._uch, ctypes.byref(handle), ctypes.c_int(kind), function, state, *everywhere)
            if code != unicorn.UC_ERR_OK:
                raise ToolchainError(f"the emulator refused the timing hooks: {UcError(code)}")

    def forget_caches(self) -> None:
        """Start with cold caches and predictors, as after a reset; the counts go on."""
        for tags in self._tags:
            ctypes.memset(tags, 0, ctypes.sizeof(tags))
        self._state.code.latest = 0
        self._state.data.latest = 0
        self._state.previous = None
        for index in self._learned:
            self._blocks[index].predictor = 0
            self._blocks[index].last_target = 0

    def watch(self, places: Places) -> None:
        """Book what is counted from now on to these places; before anything has run."""
        self._places = places
        self._rooms = (_CTally * (places.n_steps * places.n_functions))()
        self._state.profile = _CProfile(
            tallies=self._rooms,
            n_steps=places.n_steps,
            n_functions=places.n_functions,
            run_first=places.run_first,
            run_bytes=places.run_bytes,
        )

    def tallies(self) -> dict[tuple[int, int], Tally]:
        """What was booked so far, by step and function; places where nothing happened are left out."""
        if self._places is None:
            return {}
        n = self._places.n_functions
        return {
            divmod(i, n): Tally(room.cycles, room.n_instructions, room.code_stalls, room.data_stalls)
            for i, room in enumerate(self._rooms)
            if room.n_instructions
        }

    def _fill(self, address: int, size: int) -> None:
        block = self._learn(address, size)
        index = (address - self._first) // 2
        self._learned.add(index)
        self._blocks[index] = _CBlock(
            aligned=block.aligned,
            end=address + size,
            cycles=block.cycles,
            n_instructions=block.n_instructions,
            exit=block.exit,
            starts_misaligned=block.starts_misaligned,
            function=0 if self._places is None else self._places.function_at(address),
        )

    def _cache(self, cache: Cache) -> _CCache:
        tags = (ctypes.c_uint32 * (cache.n_sets * cache.n_ways))()
        self._tags.append(tags)
        pointer = ctypes.cast(tags, ctypes.POINTER(ctypes.c_uint32))
        shift = cache.line_bytes.bit_length() - 1
        return _CCache(pointer, cache.n_sets, cache.n_ways, shift, cache.miss, cache.reads_ahead, 0)


class PythonCounter:
    """The rules of hooks.c once more: slow, but it needs no compiler, and it checks the C."""

    def __init__(self, timing: CoreTiming, code_range: tuple[int, int], learn: Learn, refuse: Refuse) -> None:
        self._timing = timing
        self._code_range = code_range
        self._learn = learn
        self._refuse = refuse
        self._blocks: dict[int, Block] = {}
        self.cycles = 0
        self.n_instructions = 0
        self._places: Places | None = None
        self._place: tuple[int, int] | None = None
        self._rooms: dict[tuple[int, int], Tally] = {}
        self.forget_caches()

    @property
    def latest(self) -> int | None:
        """Address of the block under way; None in code that is not timed."""
        return None if self._previous is None else self._previous.address

    def attach(self, engine: Engine) -> None:
        """Start to count what this engine executes."""
        engine.hook_add(unicorn.UC_HOOK_BLOCK, self._on_block)
        engine.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._on_access)

    def forget_caches(self) -> None:
        """Start with cold caches and predictors, as after a reset; the counts go on."""
        self._previous: Block | None = None
        self._n_accesses = 0
        self._predictors: dict[int, int] = {}
        self._last_targets: dict[int, int] = {}
        self._code = _Tags(self._timing.code)
        self._data = self._code if self._timing.is_unified else _Tags(self._timing.data)

    def watch(self, places: Places) -> None:
        """Book what is counted from now on to these places; before anything has run."""
        self._places, self._steps = places, Steps(places)

    def tallies(self) -> dict[tuple[int, int], Tally]:
        """What was booked so far, by step and function; places where nothing happened are left out."""
        return dict(self._rooms)

    def _book(self, tally: Tally) -> None:
        if self._place is not None:
            self._rooms[self._place] = self._rooms.get(self._place, Tally()) + tally

    def _on_block(self, engine: Engine, address: int, size: int, _: object) -> None:
        first, behind = self._code_range
        if not first <= address < behind:
            self._previous = self._place = None
            return
        now = self._blocks.get(address)
        if now is None or now.size != size:
            now = self._blocks[address] = self._learn(address, size)
        cycles = now.cycles
        if self._previous is not None:
            cycles += self._edge(self._previous, now)
        line_bytes = self._timing.code.line_bytes
        lines = range(address // line_bytes * line_bytes, address + size, line_bytes)
        stalls = sum(self._code.look_up(line) for line in lines)
        cycles += stalls
        if self._places is not None:
            before = 0 if self._previous is None else self._previous.address + self._previous.size
            self._place = self._steps.take(before, address), self._places.function_at(address)
            self._book(Tally(cycles, now.n_instructions, stalls))
        self.cycles += cycles
        self.n_instructions += now.n_instructions
        self._previous = now
        self._n_accesses = 0

    def _edge(self, origin: Block, to: Block) -> int:
        taken = origin.address + origin.size != to.address
        cycles = 0
        if self._timing.mispredicted and self._is_surprise(origin, to, taken):
            cycles += self._timing.mispredicted
        if taken:
            cycles += self._timing.taken
            cycles += self._timing.indirect if origin.exit >= Exit.INDIRECT else 0
            cycles += self._timing.misaligned if to.starts_misaligned else 0
        return cycles

    def _is_surprise(self, origin: Block, to: Block, taken: bool) -> bool:
        if origin.exit is Exit.CONDITIONAL:
            state = self._predictors.get(origin.address, 0)
            self._predictors[origin.address] = min(STRONGLY_TAKEN, state + 1) if taken else max(0, state - 1)
            return taken != (state >= WEAKLY_TAKEN)
        if origin.exit is Exit.INDIRECT:
            last = self._last_targets.get(origin.address, 0)
            self._last_targets[origin.address] = to.address
            return last != to.address
        return False

    def _on_access(self, engine: Engine, kind: int, address: int, size: int, value: int, _: object) -> None:
        index, self._n_accesses = self._n_accesses, self._n_accesses + 1
        if address & (min(size, 4) - 1):
            if self._timing.never_unaligned or (self._previous is not None and self._previous.aligned >> index & 1):
                self._refuse(address)
            self.cycles += self._timing.unaligned
            self._book(Tally(self._timing.unaligned))
        if any(first <= address < behind for first, behind in self._timing.data_ranges):
            lost = self._data.look_up(address)
            if kind != unicorn.UC_MEM_WRITE:
                self.cycles += lost
                self._book(Tally(lost, data_stalls=lost))


class _Tags:
    """The lines that a cache holds, most recently used first in each set."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._sets: list[list[int]] = [[] for _ in range(cache.n_sets)]
        self._latest = -2

    def look_up(self, address: int) -> int:
        line = address // self._cache.line_bytes
        lines = self._sets[line % self._cache.n_sets]
        is_next = self._cache.reads_ahead and line == self._latest + 1
        lost = 0 if line in lines or is_next else self._cache.miss
        self._latest = line
        if line in lines:
            lines.remove(line)
        lines.insert(0, line)
        del lines[self._cache.n_ways :]
        return lost


def make_counter(timing: CoreTiming, code_range: tuple[int, int], learn: Learn, refuse: Refuse) -> Counter:
    """The C hooks, or the Python ones on a machine without any compiler."""
    try:
        return NativeCounter(timing, code_range, learn, refuse)
    except ToolchainError:
        return PythonCounter(timing, code_range, learn, refuse)


def _unicorn_library() -> str:
    """The very library that the binding has loaded; a second copy would know nothing of its engines."""
    return str(unicorn.unicorn_py3.unicorn.uclib._name)


def _load_hooks() -> ctypes.CDLL:
    """hooks.c as a library, compiled once per version of its text."""
    source = package_folder("twin") / "hooks.c"
    key = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    library = cache_folder() / "twin" / f"{key}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        toolchain.build_host_library([source], [], library, toolchain.find_host_compiler())
    return ctypes.CDLL(str(library))
