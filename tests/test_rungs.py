"""Rungs: where they lie, who goes on, and how well one foretells the next; the numbers are worked out by hand."""

import numpy as np
import pytest
from studies import make_evaluation

from trec_dse.candidate import PruningRecipe, QuantizationRecipe, Recipe
from trec_dse.lineage import Lineage
from trec_dse.results import Evaluation, RungResult
from trec_dse.rungs import N_RUNGS, UNTRAINED, Place, RungBook, correlations, places, spearman, total_epochs


def recipe(epochs: int, behind: int = 0) -> Recipe:
    """So many dense epochs, and `behind` in both phases after them."""
    return Recipe(epochs=epochs, fine_tune_epochs=behind, trec_epochs=behind)


def epochs_of(steps: tuple[Place, ...]) -> list[int]:
    return [step.epochs for step in steps]


def book_with(*losses: tuple[float, float], rung: int = 1) -> RungBook:
    book = RungBook()
    for number, pair in enumerate(losses):
        book.enter(str(number), rung, np.array(pair))
    return book


def test_twenty_seven_epochs_are_judged_after_none_and_after_each_power_of_three() -> None:
    steps = places(recipe(27))
    assert epochs_of(steps) == [0, 1, 3, 9, 27]
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    assert [step.is_last for step in steps] == [False] * 4 + [True]


def test_a_rung_that_costs_hardly_less_than_the_next_is_left_out() -> None:
    # a ninth of nine epochs is 1, and a 27th cannot be less
    assert epochs_of(places(recipe(9))) == [0, 1, 3, 9]
    assert [step.index for step in places(recipe(9))] == [0, 2, 3, 4]


def test_a_rung_whose_branch_costs_too_much_is_left_out() -> None:
    # of 90 + 10 + 10 = 110 epochs a twentieth is 5.5: behind 3 and 10 epochs come 1 + 1 more, behind 30 come 3 + 3
    assert [total_epochs(recipe(90, 10), n) - n for n in (3, 10, 30)] == [2, 2, 6]
    assert epochs_of(places(recipe(90, 10))) == [0, 3, 10, 90]
    # of 15 + 3 + 3 it is 1.05, less than the 2 epochs behind the first rung that trains
    assert epochs_of(places(recipe(15, 3))) == [0, 15]


def test_few_epochs_have_few_rungs() -> None:
    assert epochs_of(places(recipe(1))) == [0, 1]
    assert epochs_of(places(recipe(3))) == [0, 1, 3]
    assert epochs_of(places(recipe(0))) == [0, 0]


def test_a_reduction_of_one_leaves_the_whole_training_alone() -> None:
    assert places(recipe(27), reduction=1) == (Place(N_RUNGS - 1, 27),)


def test_gradual_pruning_is_not_interrupted() -> None:
    gradual = Recipe(epochs=27, pruning=PruningRecipe(schedule="agp"))
    assert epochs_of(places(gradual)) == [0, 27]


def test_later_phases_are_shortened_in_proportion_but_never_left_out() -> None:
    whole = Recipe(epochs=27, fine_tune_epochs=9, trec_epochs=0, quantization=QuantizationRecipe(qat_epochs=6))
    short = whole.shortened(9)
    assert (short.epochs, short.fine_tune_epochs, short.trec_epochs) == (27, 3, 0)
    assert short.quantization.qat_epochs == 2
    assert whole.shortened(1).fine_tune_epochs == 1
    assert whole.shortened(27) == whole


def test_nobody_goes_on_before_three_have_arrived() -> None:
    book = book_with((1, 9), (2, 8))
    assert book.next() is None
    book.enter("2", 1, np.array((3.0, 7.0)))
    assert book.next() is not None


def test_a_dominated_candidate_waits_for_those_that_dominate_it() -> None:
    book = book_with((3, 3), (1, 1), (2, 2), (4, 4), (5, 5), (6, 6))
    order = []
    while (due := book.next()) is not None:
        order.append(due[0])
        book.leave(*due)
    assert order == ["1", "2"]  # two of six


def test_of_one_front_the_candidate_that_adds_most_goes_on() -> None:
    # scaled to 0..1 with the reference at 1.1: (0, 1) and (1, 0) add 0.11 each, (0.2, 0.2) adds 0.81
    book = book_with((0, 10), (10, 0), (2, 2))
    assert book.next() == ("2", 1)


def test_what_has_gone_on_makes_its_neighbours_less_interesting() -> None:
    # scaled to 0..1: (0.2, 0.2) goes first; then (0.21, 0.19) adds 0.01 * 0.89, but (0, 1) adds 0.2 * 0.1
    book = book_with((2, 2), (2.1, 1.9), (0, 10), (10, 0), (11, 11), (12, 12))
    assert book.next() == ("0", 1)
    book.leave("0", 1)
    assert book.next() == ("2", 1)


def test_the_highest_rung_is_served_first() -> None:
    book = book_with((1, 1), (2, 2), (3, 3))
    for number in range(3):
        book.enter(f"high {number}", 3, np.array((number, number), dtype=float))
    assert book.next() == ("high 0", 3)
    book.leave("high 0", 3)
    assert book.next() == ("0", 1)


def test_a_candidate_that_waits_goes_on_when_more_have_arrived_behind_it() -> None:
    book = book_with((1, 1), (2, 2), (3, 3))
    book.leave("0", 1)
    assert book.next() is None
    for number in range(3):
        book.enter(f"worse {number}", 1, np.array((8.0, 8.0)))
    assert book.next() == ("1", 1)


def test_what_could_not_be_trained_is_not_tried_again() -> None:
    book = book_with((1, 1), (2, 2), (3, 3))
    book.close("0")
    assert book.next() == ("1", 1)


def test_a_new_judgement_of_the_untrained_changes_their_order() -> None:
    book = RungBook(error=0)
    for number in range(3):
        book.enter(str(number), UNTRAINED, np.array((10.0 + number, 5.0)))
    assert book.next_to_finish() == ("0", UNTRAINED)
    book.revise(lambda keys: (np.array([[20.0 - float(key), 5.0] for key in keys]), np.full(len(keys), 0.1)))
    assert book.next_to_finish() == ("2", UNTRAINED)


def test_twenty_are_looked_at_before_two_of_them_are_trained_and_then_one_in_twenty() -> None:
    book, served = RungBook(error=0), []
    for number in range(61):
        # each is cheaper than all before it, so that each is worth something
        book.enter(str(number), UNTRAINED, np.array((50.0, 100.0 - number)))
        while (due := book.next()) is not None:
            book.leave(*due)
            served.append(number + 1)
    assert served == [20, 20, 40, 60]


def test_what_adds_most_for_each_epoch_that_is_left_goes_first() -> None:
    book = RungBook(error=0)
    book.enter("done", N_RUNGS - 1, np.array((20.0, 5.0)), Lineage("n0", "dense", "pruned", 15, 3, 3))
    # one epoch in seven is left to a relative, for its parents are trained: more than half the gain is enough
    book.enter("stranger", UNTRAINED, np.array((10.0, 5.0)), Lineage("n1", "other", "other's", 15, 3, 3))
    book.enter("relative", UNTRAINED, np.array((14.0, 5.0)), Lineage("n2", "dense", "pruned", 15, 3, 3))
    assert book.next_to_finish() == ("relative", UNTRAINED)
    book.leave("relative", UNTRAINED)
    book.enter("relative", N_RUNGS - 1, np.array((14.0, 5.0)), Lineage("n2", "dense", "pruned", 15, 3, 3))
    assert book.next_to_finish() == ("stranger", UNTRAINED)


def test_a_network_that_is_known_from_another_candidate_is_not_trained() -> None:
    book = RungBook(error=0)
    for key, rung in (("done", N_RUNGS - 1), ("twin", UNTRAINED)):
        book.enter(key, rung, np.array((20.0, 5.0)), Lineage("network", "dense", "pruned", 15, 3, 3))
    assert book.next_to_finish() is None


def test_what_is_being_trained_makes_its_like_less_interesting() -> None:
    book = RungBook(error=0)
    book.enter("dear", UNTRAINED, np.array((6.0, 60.0)))
    book.enter("dearest", UNTRAINED, np.array((90.0, 100.0)))
    for key in ("small", "like small"):
        book.enter(key, UNTRAINED, np.array((11.0, 50.0)))
    assert book.next_to_finish() == ("small", UNTRAINED)
    book.leave("small", UNTRAINED)
    # its like could only be luckier than it
    assert book.next_to_finish() == ("dear", UNTRAINED)


def test_the_front_is_finished_and_nothing_else() -> None:
    book = RungBook()
    book.enter("done", N_RUNGS - 1, np.array((1.0, 5.0)))
    book.enter("small", 1, np.array((5.0, 1.0)))
    book.enter("bad", 1, np.array((5.0, 6.0)))
    assert book.next() is None
    assert book.next_to_finish() == ("small", 1)
    book.leave("small", 1)
    book.enter("small", N_RUNGS - 1, np.array((4.0, 1.0)))
    assert book.next_to_finish() is None


def test_what_adds_next_to_nothing_to_the_front_is_not_finished() -> None:
    book = RungBook()
    book.enter("a", N_RUNGS - 1, np.array((0.0, 0.0)))
    book.enter("b", N_RUNGS - 1, np.array((10.0, -0.01)))
    # better than a by a millionth of the range in one, worse in the other
    book.enter("c", 1, np.array((-0.00001, 0.000001)))
    assert book.next_to_finish() is None


def test_a_candidate_is_finished_for_the_error_that_others_had_in_the_end() -> None:
    last = N_RUNGS - 1
    book = RungBook(error=0)
    for key, early, late, cost in (("a", 19.5, 9.5, 5.0), ("b", 39.5, 19.5, 4.0)):
        book.enter(key, 1, np.array((early, cost)))
        book.leave(key, 1)
        book.enter(key, last, np.array((late, cost)))
    # both halved 20 and 40, half a percent added: 31.5 will be 15.5, which a book that expects nothing cannot know
    book.enter("c", 1, np.array((31.5, 4.5)))
    book.enter("d", 1, np.array((45.5, 4.5)))
    assert book.next_to_finish() == ("c", 1)
    unknowing = RungBook()
    for key, losses in (("a", (9.5, 5.0)), ("b", (19.5, 4.0))):
        unknowing.enter(key, last, np.array(losses))
    unknowing.enter("c", 1, np.array((31.5, 4.5)))
    assert unknowing.next_to_finish() is None


def test_nobody_goes_on_whom_even_half_of_the_expected_error_would_not_bring_to_the_front() -> None:
    book = RungBook(error=0)
    book.enter("done", N_RUNGS - 1, np.array((10.0, 5.0)))
    # nothing is known of how errors fall, so they are expected to stay: half of 20.5 is more than 10, of 19 it is less
    for key, losses in (("worse", (20.5, 6.0)), ("much worse", (40.0, 5.0)), ("hopeful", (19.0, 6.0))):
        book.enter(key, 1, np.array(losses))
    assert book.next() == ("hopeful", 1)
    book.close("hopeful")
    assert book.next() is None
    # what is cheaper than all that is finished may err as much as it likes
    book.enter("small", 1, np.array((90.0, 4.9)))
    assert book.next() == ("small", 1)


def test_who_was_held_back_goes_on_once_errors_are_seen_to_fall() -> None:
    book = RungBook(error=0)
    book.enter("a", 1, np.array((39.5, 5.0)))
    book.leave("a", 1)
    for key in ("held back", "b", "c", "d", "e"):
        book.enter(key, 1, np.array((33.5, 6.0)))
    book.enter("done", N_RUNGS - 1, np.array((10.0, 5.0)))
    assert book.next() is None
    # from 40 to 20, half a percent added: 34 will be 17, and half of 16.5 is less than 10
    book.enter("a", N_RUNGS - 1, np.array((19.5, 5.0)))
    assert book.next() == ("held back", 1)


def test_an_error_on_a_rung_is_expected_to_fall_as_those_of_others_did() -> None:
    book = RungBook(error=0)
    book.enter("a", 2, np.array((19.5, 5.0)))
    book.leave("a", 2)
    book.enter("b", 2, np.array((11.5, 6.0)))
    assert book.at_the_end("b", 2) == pytest.approx(11.5)
    book.enter("a", N_RUNGS - 1, np.array((4.5, 5.0)))
    # a quarter: 12 will be 3, half a percent off
    assert book.at_the_end("b", 2) == pytest.approx(2.5)


def test_an_empty_book_has_nothing_to_do() -> None:
    assert RungBook().next() is None
    assert RungBook().next_to_finish() is None


def test_a_rung_forgets_those_without_prospect() -> None:
    book = RungBook()
    for number in range(700):
        book.enter(str(number), 1, np.array((float(number), float(number))))
    served = []
    while (due := book.next()) is not None:
        book.leave(*due)
        served.append(due[0])
    assert served[:200] == [str(number) for number in range(200)]


def test_equal_losses_are_served_in_their_order() -> None:
    assert book_with((1, 1), (1, 1), (1, 1)).next() == ("0", 1)


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([10.0, 30, 20, 40])) == pytest.approx(0.8)
    assert spearman(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    # ties share rank 1.5: against 1 2 3 that is 1.5 / sqrt(1.5 * 2)
    assert spearman(np.array([5.0, 5, 7]), np.array([1.0, 2, 3])) == pytest.approx(1.5 / np.sqrt(3))
    assert np.isnan(spearman(np.array([1.0, 1.0]), np.array([1.0, 2.0])))


def test_rungs_are_correlated_over_those_that_reached_both() -> None:
    def judged(number: int, *errors: float) -> Evaluation:
        rungs = tuple(RungResult(3**i, error, 1) for i, error in enumerate(errors))
        return Evaluation(**{**vars(make_evaluation(1.0, 8.0, key=str(number))), "rungs": rungs})

    evaluations = [judged(0, 0.4, 0.2), judged(1, 0.5, 0.3), judged(2, 0.6, 0.25), judged(3, 0.9), judged(4)]
    # orders 1 2 3 against 1 3 2
    (found,) = correlations(evaluations)
    assert (found.lower, found.upper, found.n) == (1, 3, 3)
    assert found.rho == pytest.approx(0.5)
