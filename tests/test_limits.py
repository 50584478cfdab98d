"""What a study allows besides what its board has: from the space's file to the trial that is never trained."""

from pathlib import Path

import pytest
from studies import TARGET, make_cost

from trec_dse import plugins
from trec_dse.codec import from_json, to_json
from trec_dse.cost import violations
from trec_dse.errors import SearchSpaceError, StudyError, TargetError
from trec_dse.evaluate import evaluate
from trec_dse.results import EvaluateRequest, Limits
from trec_dse.search_space import load_search_space, sample_at_random
from trec_dse.target import load_target

COST = make_cost(12.0, 60.0, latency_ms=8.0)
KIB = 1024


def test_without_limits_the_board_alone_counts() -> None:
    assert set(violations(COST, TARGET)) == {"sram", "flash"}
    assert violations(COST, TARGET) == violations(COST, TARGET, Limits())


def test_the_lower_limit_counts() -> None:
    assert violations(COST, TARGET, Limits(sram_bytes=6 * KIB))["sram"] == pytest.approx(1.0)  # 12 of 6 KiB
    assert violations(COST, TARGET, Limits(flash_bytes=80 * KIB))["flash"] == pytest.approx(-0.25)  # 60 of 80 KiB
    roomy = violations(COST, TARGET, Limits(sram_bytes=10 * TARGET.sram_bytes))
    assert roomy["sram"] == violations(COST, TARGET)["sram"]


def test_macs_have_a_limit_only_where_the_study_says_one() -> None:
    assert violations(COST, TARGET, Limits(macs=COST.macs // 2))["macs"] == pytest.approx(1.0)
    assert violations(COST, TARGET, Limits(macs=COST.macs))["macs"] == 0.0


def test_the_published_study_has_its_published_limits() -> None:
    space = load_search_space("cifar10_resnet_pruning")
    assert space.limits == Limits(flash_bytes=1_000_000, sram_bytes=256_000, macs=500_000_000)  # 10^9 FLOPs


def test_a_space_without_limits_has_none() -> None:
    assert load_search_space("digits_tiny").limits == Limits()


def test_limits_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "space.py").write_text('DATASET = "digits"\nLIMITS = {"sram": 1}\ndef suggest(trial): ...\n')
    with pytest.raises(SearchSpaceError, match=r"LIMITS is \{'sram': 1\}; it would be Limits\(sram_bytes=256_000\)"):
        load_search_space(str(tmp_path / "space.py"))


def test_what_breaks_a_limit_of_the_study_is_never_trained(tmp_path: Path) -> None:
    target = load_target(plugins.data_file("targets", "raspberry-pi-pico", ".toml", TargetError))
    candidate = sample_at_random(load_search_space("digits_tiny"), 1)[0]
    request = EvaluateRequest(candidate, target, None, str(tmp_path / "candidates" / "x"), None, Limits(macs=1000))
    assert from_json(to_json(request), EvaluateRequest, "request", StudyError) == request
    evaluation = evaluate(request, lambda _: None)
    assert not evaluation.is_feasible
    assert evaluation.int8_accuracy is None
    assert evaluation.limits == Limits(macs=1000)
    assert evaluation.violations["macs"] == evaluation.estimated.macs / 1000 - 1
