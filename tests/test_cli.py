"""The command line: help that teaches, light imports, one message and one exit code per mistake."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from trec_dse import codec
from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.cli import main
from trec_dse.cli.arguments import build_parser

ROOT = Path(__file__).resolve().parent.parent


def verbs() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    choices = next(action.choices for action in actions if isinstance(action, argparse._SubParsersAction))
    return dict(choices)


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_teaches_itself_and_stands_in_the_readme(verb: str) -> None:
    text = verbs()[verb].format_help()
    assert "example:" in text
    assert f"trec-dse {verb}" in text
    assert f"`{verb}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_a_file_that_runs(verb: str) -> None:
    assert (ROOT / "trec_dse" / "cli" / f"{verb}.py").is_file()


def test_help_loads_neither_torch_nor_optuna() -> None:
    code = "import sys; from trec_dse.cli.arguments import build_parser; build_parser().format_help(); "
    code += "print([m for m in ('torch', 'optuna', 'pandas', 'plotly') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    return code, capsys.readouterr().err


def test_an_unknown_board_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    code, message = failing(capsys, "estimate", "digits_tiny", "--target", "arduino")
    assert code == 2
    assert "no targets entry named 'arduino'" in message
    assert "stm32f469i-disco" in message


def test_an_unknown_key_of_a_board_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    board = (ROOT / "targets" / "stm32f469i-disco.toml").read_text().replace("clock_hz = 180", "clok_hz = 180", 1)
    (tmp_path / "bad.toml").write_text(board)
    code, message = failing(capsys, "estimate", "digits_tiny", "--target", str(tmp_path / "bad.toml"))
    assert code == 2
    assert "unknown key clok_hz" in message
    assert "'clock_hz' is missing" in message


def test_an_unknown_space_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    code, message = failing(capsys, "search", "imagenet", "--target", "nucleo-f746zg")
    assert code == 2
    assert "digits_tiny" in message


def test_a_folder_without_a_study_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for verb in ("status", "resume", "report", "pick"):
        code, message = failing(capsys, verb, str(tmp_path))
        assert code == 2
        assert "holds no study" in message


def test_a_broken_candidate_is_explained_field_by_field(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "candidate.json"
    path.write_text('{"dataset": "digits", "network": "tiny", "widht": 3, "recipe": {"epochs": "many"}}')
    code, message = failing(capsys, "estimate", str(path), "--target", "nucleo-f746zg")
    assert code == 2
    assert "unknown key widht" in message
    assert "recipe.epochs: expected int, found 'many'" in message


def test_an_impossible_layer_name_is_refused_before_training(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "candidate.json"
    candidate = Candidate("digits", "tiny", {"width": 4, "depth": 1}, TrecPolicy(2, 2, layers=("conv9",)))
    path.write_text(codec.to_json(candidate))
    code, message = failing(capsys, "train", str(path), "--target", "nucleo-f746zg", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "conv9" in message
    assert "conv1" in message


def test_a_port_that_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, message = failing(capsys, "validate", str(tmp_path), "--port", "/dev/ttyNONE")
    assert code == 2
    assert "manifest.json" in message


def test_an_estimate_needs_no_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "candidate.json"
    path.write_text(codec.to_json(Candidate("cifar10", "cifarnet", {"width": 0.25}, TrecPolicy(4, 4))))
    assert main(["estimate", str(path), "--target", "stm32f469i-disco", "--json"]) == 0
    output = capsys.readouterr()
    assert "made-up images" in output.err
    found = json.loads(output.out)
    assert found["sram_bytes"] == found["arena_bytes"] + found["static_bytes"] + found["stack_bytes"]
    assert found["fits"] is True
    assert {buffer["kind"] for buffer in found["buffers"]} == {"input", "activation", "output", "scratch"}


def test_an_estimate_for_size_says_what_it_saves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "candidate.json"
    path.write_text(codec.to_json(Candidate("digits", "tiny", {"width": 8, "depth": 1})))
    estimate = ["estimate", str(path), "--target", "nucleo-f746zg"]
    code = {}
    for choice in ("speed", "size"):
        assert main([*estimate, "--optimize", choice, "--json"]) == 0
        code[choice] = json.loads(capsys.readouterr().out)["code_bytes"]
    assert main([*estimate, "--optimize", "size"]) == 0
    saved = code["speed"] - code["size"]
    assert 300 < saved < 1500
    assert f"for size: +{saved:,} B of Flash saved, " in capsys.readouterr().out


def test_an_estimate_says_which_tables_are_placed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "candidate.json"
    path.write_text(codec.to_json(Candidate("digits", "tiny", {"width": 8, "depth": 2})))
    estimate = ["estimate", str(path), "--target", "nucleo-f303re"]
    assert main([*estimate, "--place", "CCM"]) == 0
    assert "2.09 KiB of 16,384 B in CCM: conv1, conv2, fc1; " in capsys.readouterr().out
    assert main([*estimate, "--place", "CCM", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["placed_bytes"] == 2144
    assert main([*estimate, "--place", "DTCM"]) == 2
    assert "no RAM named 'DTCM' to place tables in; it has SRAM, CCM" in capsys.readouterr().err


def test_a_space_is_estimated_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "digits_tiny", "--target", "stm32f469i-disco", "--samples", "3"]) == 0
    assert capsys.readouterr().out.count("tiny width") == 3


def test_boards_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    names = {target["name"] for target in json.loads(capsys.readouterr().out)}
    assert {"stm32f469i-disco", "nucleo-f746zg"} <= names


def test_doctor_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    checks = json.loads(capsys.readouterr().out)
    assert code == (0 if all(check["ok"] for check in checks if check["is_needed"]) else 1)
    assert all(check["fix"] for check in checks if not check["ok"])


def test_a_number_of_trials_below_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["search", "digits_tiny", "--target", "nucleo-f746zg", "--trials", "0"])
    assert stop.value.code == 2
    assert "not at least 1" in capsys.readouterr().err
