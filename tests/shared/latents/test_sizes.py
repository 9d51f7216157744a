import pytest

from shared.errors import InputError
from shared.latents.sizes import check_multiple, check_size


def test_what_the_factor_divides_is_taken():
    check_size(64, 8, 8)


@pytest.mark.parametrize(("size", "nearest"), [(60, "56 or 64"), (3, "8"), (0, "8"), (-8, "8")])
def test_other_sizes_name_the_nearest(size, nearest):
    with pytest.raises(InputError, match=f"a multiple of 8 pixels, such as {nearest}, got {size}"):
        check_multiple("height", size, 8)


@pytest.mark.parametrize(("width", "height", "name"), [(60, 64, "width"), (64, 60, "height")])
def test_the_side_is_named(width, height, name):
    with pytest.raises(InputError, match=f"^{name}"):
        check_size(width, height, 8)
