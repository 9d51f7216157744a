"""One comparison for tensors, with the tolerances of `tests.tolerances`."""

import torch

from tests.tolerances import close


def near(got: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype | None = None) -> None:
    """Assert that both agree to the tolerance of `dtype`, the precision that the numbers went through."""
    torch.testing.assert_close(got, wanted, **close(dtype or wanted.dtype), check_dtype=False)
