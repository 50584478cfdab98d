"""The doctor names what is missing and how to get it."""

import shutil
from pathlib import Path

import pytest

from trec_dse import doctor
from trec_dse.doctor import Check


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
