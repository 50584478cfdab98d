"""A board in software: memory as the target describes it, the firmware as it would be flashed, and a cycle count."""

from trec_dse.errors import DeviceError
from trec_dse.target import Target
from trec_dse.twin.chips import check_serial_port, flash_refusal, hides_flash, make_peripherals, start_of
from trec_dse.twin.core import Clock, make_core
from trec_dse.twin.counter import Counter, CounterMaker
from trec_dse.twin.decode import decode, missing_on
from trec_dse.twin.engine import Engine, UcError, unicorn
from trec_dse.twin.hooks import make_counter
from trec_dse.twin.image import THUMB_BIT, Image
from trec_dse.twin.lines import Line
from trec_dse.twin.registers import Gate, Registers, Wires
from trec_dse.twin.timing import Block, block_at, core_timing

LINK_REGISTER = 14
_PAGE = 4096
_BOOT_BYTES = 256
_FOREVER = 0xFFFF_FFFE
_CPU = {
    "cortex-m0plus": unicorn.arm_const.UC_CPU_ARM_CORTEX_M0,
    "cortex-m3": unicorn.arm_const.UC_CPU_ARM_CORTEX_M3,
    "cortex-m4": unicorn.arm_const.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": unicorn.arm_const.UC_CPU_ARM_CORTEX_M7,
}
_EXCEPTIONS = {1: "undefined instruction", 2: "SVC", 3: "prefetch abort", 4: "data abort", 7: "breakpoint"}
_ACCESS = {
    unicorn.UC_MEM_READ_UNMAPPED: "read of",
    unicorn.UC_MEM_WRITE_UNMAPPED: "write to",
    unicorn.UC_MEM_FETCH_UNMAPPED: "jump to",
    unicorn.UC_MEM_READ_PROT: "read of protected",
    unicorn.UC_MEM_WRITE_PROT: "write to read-only",
    unicorn.UC_MEM_FETCH_PROT: "jump to data at",
}


class Machine:
    """A board with a firmware in its Flash; `run` starts it. One that has faulted can only be reset.

    Attributes:
        counter: raw cycles and instructions since power-on. clock: core cycles since then.
    """

    counter: Counter

    def __init__(self, image: Image, target: Target, line: Line, make: CounterMaker = make_counter) -> None:
        self._image = image
        self._target = target
        self._timing = core_timing(target)
        self.clock = Clock(lambda: self.counter.cycles, self._timing.permille)
        self._engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._engine.ctl_set_cpu_model(_CPU[target.core])
        self._fault: DeviceError | None = None
        self._is_reset_asked = False
        self._map_memory()
        wires = Wires(line, self._check_serial_port, self._engine.emu_stop, self.clock.cycles, self._ask_reset)
        self._devices = (
            *make_peripherals(target, wires),
            *make_core(target, self.clock, self._ask_reset),
        )
        self._by_name = {device.name: device for device in self._devices}
        self._map_devices()
        self._watch()
        flash = target.region(target.flash_region)
        code_end = max((address + len(data) for address, data in image.segments), default=flash.origin)
        self.counter = make(self._timing, (flash.origin, code_end), self._learn, self._refuse_unaligned)
        self.counter.attach(self._engine)
        self.reset()

    def reset(self) -> None:
        """Peripherals and registers as after a reset, memory as it was; then stack and start from the vector table."""
        self._fault = None
        self._is_reset_asked = False
        for device in self._devices:
            device.reset()
        for register in range(unicorn.arm_const.UC_ARM_REG_R0, unicorn.arm_const.UC_ARM_REG_R0 + 13):
            self._engine.reg_write(register, 0)
        start = start_of(self._target, self.memory(self._target.region(self._target.flash_region).origin, _BOOT_BYTES))
        for address, data in start.copied:
            self._engine.mem_write(address, data)
        self._engine.reg_write(unicorn.arm_const.UC_ARM_REG_SP, start.stack)
        self._engine.reg_write(unicorn.arm_const.UC_ARM_REG_LR, start.link)
        self._engine.reg_write(unicorn.arm_const.UC_ARM_REG_PC, start.address | THUMB_BIT)
        self._show_flash(not hides_flash(self._target))
        self.counter.forget_caches()

    def run(self, until: int = _FOREVER) -> None:
        """Execute until the address `until` or the end of the line. Raises `DeviceError` if the firmware faults."""
        while True:
            self._execute(until)
            if not self._is_reset_asked:
                return
            self.reset()

    def device(self, name: str) -> Registers:
        """The peripheral of that name."""
        return self._by_name[name]

    @property
    def devices(self) -> tuple[Registers, ...]:
        """All peripherals."""
        return self._devices

    def register(self, number: int) -> int:
        """The value of r0 to r12, or of lr, which is 14."""
        is_link = number == LINK_REGISTER
        known = unicorn.arm_const.UC_ARM_REG_LR if is_link else unicorn.arm_const.UC_ARM_REG_R0 + number
        return int(self._engine.reg_read(known))

    def memory(self, address: int, size: int) -> bytes:
        """`size` bytes of memory."""
        return bytes(self._engine.mem_read(address, size))

    def _execute(self, until: int) -> None:
        try:
            self._engine.emu_start(self._pc() | THUMB_BIT, until)
        except UcError as problem:
            raise self._fault or self._stopped(str(problem)) from problem
        if self._fault is not None:
            raise self._fault

    def _pc(self) -> int:
        return int(self._engine.reg_read(unicorn.arm_const.UC_ARM_REG_PC))

    def _ask_reset(self) -> None:
        self._is_reset_asked = True
        self._engine.emu_stop()

    def _stop(self, fault: DeviceError) -> None:
        """End the run with this fault, unless it only follows from an earlier one."""
        self._fault = self._fault or fault
        self._engine.emu_stop()

    def _stopped(self, what: str) -> DeviceError:
        # Within a block the emulator does not keep the program counter up to date.
        place = self.counter.latest or self._pc()
        return DeviceError(f"the firmware stopped near 0x{place:08x}, in {self._image.name_at(place)}: {what}")

    def _learn(self, address: int, size: int) -> Block:
        code = self.memory(address, size)
        foreign = missing_on(self._target.core, decode(code, address))
        if foreign:
            where = self._image.name_at(address)
            self._stop(
                DeviceError(
                    f"the firmware stopped near 0x{address:08x}, in {where}: {foreign} is no instruction of a"
                    f" {self._target.core}; build it for {self._target.name}"
                )
            )
        return block_at(code, address, self._timing)

    def _refuse_unaligned(self, address: int) -> None:
        what = f"access to 0x{address:08x} by an instruction that must be aligned, where the core raises a usage fault"
        self._stop(self._stopped(what))

    def _map_memory(self) -> None:
        for region in self._target.regions:
            rights = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
            if region.kind == "ram":
                rights |= unicorn.UC_PROT_WRITE
            self._engine.mem_map(region.origin, -(-region.size // _PAGE) * _PAGE, rights)
        for address, data in self._image.segments:
            try:
                self._engine.mem_write(address, data)
            except UcError as problem:
                raise DeviceError(
                    f"{self._image.path}: {len(data)} bytes at 0x{address:08x} lie outside {self._target.name}'s memory"
                ) from problem

    def _map_devices(self) -> None:
        by_page: dict[int, list[Registers]] = {}
        for device in self._devices:
            for page in range(device.base // _PAGE, (device.base + device.size - 1) // _PAGE + 1):
                by_page.setdefault(page, []).append(device)
        for page, devices in by_page.items():
            place = (page * _PAGE, devices)
            self._engine.mmio_map(page * _PAGE, _PAGE, self._read, place, self._write, place)

    def _read(self, engine: Engine, offset: int, size: int, place: tuple[int, list[Registers]]) -> int:
        address = place[0] + offset
        try:
            device = self._device_at(address, place[1], "read of")
            word = device.read((address & ~3) - device.base)
        except DeviceError as fault:
            # The emulator's C code cannot pass an exception on, and it wants a number.
            self._stop(fault)
            return 0
        return word >> 8 * (address & 3) & ((1 << 8 * size) - 1)

    def _write(self, engine: Engine, offset: int, size: int, value: int, place: tuple[int, list[Registers]]) -> None:
        address = place[0] + offset
        try:
            device = self._device_at(address, place[1], "write to")
            word = (address & ~3) - device.base
            shift, mask = 8 * (address & 3), (1 << 8 * size) - 1
            rest = device.words.get(word, 0) & ~(mask << shift) if size < 4 else 0
            device.write(word, rest | (value & mask) << shift)
        except DeviceError as fault:
            self._stop(fault)

    def _device_at(self, address: int, devices: list[Registers], access: str) -> Registers:
        for device in devices:
            if device.base <= address < device.base + device.size:
                if device.gate and not self._is_open(device.gate):
                    where = f"bit {device.gate.bit} of {device.gate.owner} + 0x{device.gate.offset:02x} comes first"
                    state = "the clock of {} is off" if device.gate.value else "{} is held in reset"
                    raise self._stopped(f"{access} 0x{address:08x}, while {state.format(device.name)}; {where}")
                return device
        raise self._stopped(f"{access} 0x{address:08x}, where {self._target.name} has nothing that the twin models")

    def _is_open(self, gate: Gate) -> bool:
        return self._by_name[gate.owner].bits(gate.offset, gate.bit, 1) == gate.value

    def _check_serial_port(self) -> None:
        check_serial_port(self._target, self._by_name)

    def _watch(self) -> None:
        self._engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid)
        self._engine.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)

    def _show_flash(self, is_shown: bool) -> None:
        flash = self._target.region(self._target.flash_region)
        rights = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC if is_shown else unicorn.UC_PROT_NONE
        self._engine.mem_protect(flash.origin, -(-flash.size // _PAGE) * _PAGE, rights)
        self._is_flash_shown = is_shown

    def _on_invalid(self, engine: Engine, kind: int, address: int, size: int, value: int, _: object) -> bool:
        flash = self._target.region(self._target.flash_region)
        if not self._is_flash_shown and flash.origin <= address < flash.origin + flash.size:
            refusal = flash_refusal(self._target, self._by_name)
            if not refusal:
                self._show_flash(True)
                return True
            self._stop(self._stopped(f"{_ACCESS.get(kind, 'access to')} 0x{address:08x}, in the Flash: {refusal}"))
            return False
        what = f"{_ACCESS.get(kind, 'access to')} 0x{address:08x} ({size} bytes)"
        self._stop(self._stopped(f"{what}, where {self._target.name} has no such memory"))
        return False

    def _on_exception(self, engine: Engine, number: int, _: object) -> None:
        self._stop(self._stopped(_EXCEPTIONS.get(number, f"exception {number}")))
