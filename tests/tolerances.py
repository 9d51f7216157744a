"""The one table of tolerances, by dtype: how far two computations of the same number may lie apart.

A test names the row of its working dtype; a looser one needs a reason beside it.
"""

from __future__ import annotations

import torch

# dtype: (relative, absolute). About 10 to 100 units in the last place, for sums of a few thousand terms of order one;
# 3 to 4 in 16 bits, where sums are kept in 32.
TOLERANCES: dict[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-10, 1e-12),
    torch.float32: (1e-5, 3e-6),  # 1.2e-6 seen, where products are summed in another order on another CPU
    torch.bfloat16: (2e-2, 2e-2),
    torch.float16: (4e-3, 4e-3),
}


def close(dtype: torch.dtype) -> dict[str, float]:
    """Keyword arguments for torch.testing.assert_close: `assert_close(a, b, **close(torch.float32))`."""
    rtol, atol = TOLERANCES[dtype]
    return {"rtol": rtol, "atol": atol}
