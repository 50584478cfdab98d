"""The doctor names what is missing and how to get it; every fault of the page's table is provoked here."""

import grp
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trec_dse import doctor, toolchain
from trec_dse.doctor import Check

PAGE = Path(__file__).resolve().parent.parent / "docs" / "boards.md"


def test_a_checks_name_is_unique_and_each_failure_has_a_fix() -> None:
    found = doctor.checks()
    assert len({check.name for check in found}) == len(found)
    assert all(check.found for check in found)
    assert all(check.fix for check in found if not check.ok)


def test_everything_that_the_tests_need_is_here() -> None:
    assert [check.name for check in doctor.checks() if check.is_needed and not check.ok] == []


def test_the_broken_emulator_release_is_refused_by_name() -> None:
    check = doctor.unicorn_check("2.1.4")
    assert not check.ok
    assert "IT blocks" in check.found
    assert check.fix == "run: pip install unicorn==2.1.3"


def test_the_tried_emulator_is_fine_and_others_are_told_apart() -> None:
    assert doctor.unicorn_check("2.1.3") == Check("unicorn", True, "2.1.3")
    assert not doctor.unicorn_check("").ok
    other = doctor.unicorn_check("2.1.2")
    assert other.ok
    assert "checked with 2.1.3" in other.found


def test_an_old_python_is_refused() -> None:
    assert not doctor._python((3, 10, 2)).ok
    assert doctor._python((3, 11, 0)) == Check("python", True, "3.11.0")


def test_a_missing_package_comes_with_its_command() -> None:
    assert doctor.package_check("no-such-package", "pip install it") == Check(
        "no-such-package", False, "not installed", "run: pip install it"
    )


def test_boards_are_optional() -> None:
    nothing = doctor.ports_check([])
    assert not nothing.ok
    assert not nothing.is_needed
    assert doctor.ports_check(["/dev/ttyACM0"]).found == "/dev/ttyACM0"
    assert not doctor.flash_tools_check({"openocd": None}).is_needed
    assert doctor.flash_tools_check({"openocd": "/usr/bin/openocd", "pyocd": None}).found == "openocd"


def test_a_second_emulator_is_optional() -> None:
    nothing = doctor.second_engine_check(None)
    assert (nothing.ok, nothing.is_needed, nothing.found) == (False, False, "none")
    assert nothing.fix.startswith("run: sudo apt-get install qemu-system-arm")
    found = doctor.second_engine_check("/usr/bin/qemu-system-arm")
    assert (found.ok, found.found, found.fix) == (True, "/usr/bin/qemu-system-arm", "")


def test_a_cache_folder_that_does_not_exist_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert doctor.cache_check(folder) == Check("cache", True, str(folder))
    assert str(tmp_path) in doctor.disk_check(folder).found


def test_a_full_disk_says_how_much_to_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**29}))
    check = doctor.disk_check(tmp_path)
    assert not check.ok
    assert check.fix.startswith("free 1.5 GiB")


# --- the table of docs/boards.md: what concerns the machine ---


def _old_python(_: pytest.MonkeyPatch) -> Check:
    return doctor._python((3, 10, 2))


def _no_torch(_: pytest.MonkeyPatch) -> Check:
    return doctor.package_check("no-such-package", "pip install torch")


def _no_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_zig", lambda: None)
    monkeypatch.setenv("PATH", "")


def _no_board_compiler(monkeypatch: pytest.MonkeyPatch) -> Check:
    _no_compilers(monkeypatch)
    return doctor._compiler("compiler for the boards", toolchain.find_target_compiler)


def _no_host_compiler(monkeypatch: pytest.MonkeyPatch) -> Check:
    _no_compilers(monkeypatch)
    return doctor._compiler("compiler for this machine", toolchain.find_host_compiler)


def _broken_emulator(_: pytest.MonkeyPatch) -> Check:
    return doctor.unicorn_check("2.1.4")


def _no_emulator(_: pytest.MonkeyPatch) -> Check:
    return doctor.unicorn_check("")


def _full_disk(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**29}))
    return doctor.disk_check(Path("/"))


def _no_cache(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    return doctor.cache_check(Path("/nowhere/cache"))


def _no_ports(_: pytest.MonkeyPatch) -> Check:
    return doctor.ports_check([])


def _not_in_the_group(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(grp, "getgrnam", lambda name: type("Group", (), {"gr_gid": 20}))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    return doctor._permission()


def _no_flash_tool(_: pytest.MonkeyPatch) -> Check:
    return doctor.flash_tools_check({"openocd": None, "st-flash": None, "pyocd": None})


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], Check]] = {
    "old Python": _old_python,
    "missing package": _no_torch,
    "no compiler for boards": _no_board_compiler,
    "no compiler for this machine": _no_host_compiler,
    "broken emulator": _broken_emulator,
    "no emulator": _no_emulator,
    "full disk": _full_disk,
    "no cache": _no_cache,
    "no ports": _no_ports,
    "not in the group": _not_in_the_group,
    "no flash tool": _no_flash_tool,
}


def page_rows() -> dict[str, tuple[list[str], list[str]]]:
    """Fault -> quoted pieces of its finding and of its fix, of the table under "The machine"."""
    text = PAGE.read_text(encoding="utf-8").partition("### The machine\n")[2].partition("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {fault: (_quoted(found), _quoted(fix)) for fault, found, fix in lines if fault != "fault"}


def _quoted(cell: str) -> list[str]:
    return [piece.strip() for quote in re.findall(r"`([^`]+)`", cell) for piece in quote.split("...")]


def test_the_page_has_every_fault_of_the_machine_and_no_other() -> None:
    assert page_rows().keys() == FAULTS.keys()


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_the_machine_is_found_and_has_the_fix_that_the_page_says(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = FAULTS[fault](monkeypatch)
    found, fix = page_rows()[fault]
    assert not check.ok and found and fix
    assert all(piece in check.found for piece in found), check.found
    assert all(piece in check.fix for piece in fix), check.fix


def test_who_is_in_the_group_or_is_root_may_open_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _not_in_the_group(monkeypatch).ok
    monkeypatch.setattr(os, "getgroups", lambda: [1000, 20])
    assert doctor._permission().ok
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert doctor._permission().ok
