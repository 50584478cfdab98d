"""Augmented images: mirrored, moved and blanked where the numbers say, and untouched where nothing is asked."""

import torch

from trec_dse.augment import augmented, bent, blanked, flipped, shifted
from trec_dse.candidate import TrainingRecipe


def counting(n: int = 2, height: int = 3, width: int = 4) -> torch.Tensor:
    """Images (n, 1, height, width) whose pixels are 1, 2, 3, ..."""
    return torch.arange(1.0, n * height * width + 1).view(n, 1, height, width)


def test_only_the_chosen_images_are_mirrored_left_to_right() -> None:
    images = flipped(counting(), torch.tensor([False, True]))
    assert images[0, 0, 0].tolist() == [1, 2, 3, 4]
    assert images[1, 0].tolist() == [[16, 15, 14, 13], [20, 19, 18, 17], [24, 23, 22, 21]]


def test_an_image_moves_down_and_right_and_zeros_come_in() -> None:
    images = shifted(counting(), torch.tensor([[1, 2], [0, -1]]))
    assert images[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 5, 6]]
    assert images[1, 0].tolist() == [[14, 15, 16, 0], [18, 19, 20, 0], [22, 23, 24, 0]]


def test_the_channels_of_an_image_move_together() -> None:
    two = torch.stack([counting(1)[0, 0], 100 * counting(1)[0, 0]]).unsqueeze(0)
    moved = shifted(two, torch.tensor([[-1, 1]]))
    assert moved[0, 0, 0].tolist() == [0, 5, 6, 7]
    assert torch.equal(moved[0, 1], 100 * moved[0, 0])


def test_a_square_around_the_centre_is_blank_and_stops_at_the_edge() -> None:
    images = blanked(counting(2, 4, 4), torch.tensor([[1, 1], [3, 0]]), side=2)
    assert images[0, 0].tolist() == [[0, 0, 3, 4], [0, 0, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]
    assert images[1, 0, 2:, 0].tolist() == [0, 0]
    assert int((images[1] == 0).sum()) == 2  # the left half of the square lies outside


def test_nothing_is_drawn_for_what_is_not_asked() -> None:
    before = torch.get_rng_state()
    images = counting()
    assert augmented(images, TrainingRecipe()) is images
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_draws_give_the_same_images_and_each_image_its_own() -> None:
    images, recipe = counting(1, 8, 8).expand(32, 1, 8, 8), TrainingRecipe(flip=True, shift=2, cutout=3)
    found = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found.append(augmented(images, recipe))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len({tuple(image.flatten().tolist()) for image in found[0]}) > 20


def test_a_field_of_whole_pixels_moves_the_image() -> None:
    right = torch.tensor([1.0, 0.0]).expand(2, 3, 4, 2)
    images = bent(counting(), torch.eye(2).expand(2, 2, 2), right)  # each pixel reads its right neighbour
    torch.testing.assert_close(images[0, 0], torch.tensor([[2.0, 3, 4, 4], [6, 7, 8, 8], [10, 11, 12, 12]]))


def test_half_a_turn_is_half_a_turn() -> None:
    images = bent(counting(1), -torch.eye(2).expand(1, 2, 2), torch.zeros(1, 3, 4, 2))
    torch.testing.assert_close(images[0, 0], counting(1)[0, 0].flip(0, 1))


def test_random_bends_stay_within_what_is_asked() -> None:
    torch.manual_seed(0)
    image = torch.zeros(400, 1, 15, 15)
    image[:, :, 7, 7] = 1.0  # the centre, which turning and zooming leave where it is
    turned = augmented(image, TrainingRecipe(rotation=30.0, zoom=0.1))
    assert (turned[:, 0, 7, 7] > 0.99).all()
    assert not torch.equal(turned[0], turned[1])
    moved = augmented(image, TrainingRecipe(elastic=1.0))
    assert 0.1 < float((moved[:, 0, 7, 7] < 0.5).float().mean()) < 0.95
