import numpy as np

from qzoom.model.components import choose_region, component_boxes, kept_tokens


def mask_of(*cells):
    mask = np.zeros((24, 24), np.bool_)
    for row, column in cells:
        mask[row, column] = True
    return mask


def test_diagonal_neighbours_belong_together():
    assert component_boxes(mask_of((4, 4), (5, 5), (6, 6), (7, 7))) == [(4, 4, 8, 8)]


def test_single_cells_and_huge_components_do_not_count():
    assert component_boxes(mask_of((4, 4))) == []
    huge = np.zeros((24, 24), np.bool_)
    huge[:15, :15] = True
    assert component_boxes(huge) == [(0, 0, 15, 15)]
    huge[15, 0] = True
    assert component_boxes(huge) == []
    assert choose_region(huge) is None


def test_small_components_grow_to_about_three_cells():
    # 1 x 3 becomes 3 x 4, by the published rule.
    assert component_boxes(mask_of((4, 4), (4, 5), (4, 6))) == [(3, 3, 7, 6)]


def test_a_grown_box_never_holds_the_last_column():
    assert component_boxes(mask_of((4, 23), (5, 23))) == [(22, 3, 23, 6)]


def test_components_come_in_raster_order_of_their_first_cell():
    mask = mask_of((9, 0), (9, 1), (9, 2), (9, 3), (2, 20), (3, 20), (4, 20), (5, 20))
    assert component_boxes(mask) == [(20, 2, 21, 6), (0, 9, 4, 10)]


def test_one_component_is_cropped_alone_and_several_together_with_specks():
    four = [(4, 4), (4, 5), (5, 4), (5, 5)]
    region = choose_region(mask_of(*four, (20, 20)))
    assert (region.box, region.is_single) == ((4, 4, 6, 6), True)
    region = choose_region(mask_of(*four, (9, 9), (9, 10), (10, 9), (10, 10), (20, 20)))
    assert (region.box, region.is_single) == ((4, 4, 21, 21), False)


def test_kept_tokens_follow_the_stretched_mask():
    mask = np.zeros((4, 4), np.bool_)
    mask[0, 0] = mask[0, 1] = mask[1, 0] = mask[1, 1] = True
    assert kept_tokens(mask, (0, 0, 2, 2)) == tuple(range(16))
    # Columns 0 and 1 of the crop lie on the mask; column 1.5 is the tie between them.
    mask[0, 1] = mask[1, 1] = False
    assert kept_tokens(mask, (0, 0, 2, 2)) == (0, 1, 4, 5, 8, 9, 12, 13)
