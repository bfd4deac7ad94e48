"""Which samples are recorded, and where: positions in the training split to rows of the maps."""

import numpy as np
import torch
from torch import Tensor

from cotrain.affinity import waiting

__all__ = ["RecordedRows"]


class RecordedRows:
    """Rows of the recorded samples.

    Args:
        n_samples: Size of the training split.
        samples: Positions to record; None records all.

    Raises:
        ValueError: If there is no sample, or the positions are not different ones of the split.
    """

    def __init__(self, n_samples: int, samples: Tensor | None) -> None:
        if n_samples < 1:
            raise ValueError(f"n_samples must be the number of training samples, at least 1. Got {n_samples}.")
        self._n_samples = n_samples
        self.samples = samples
        """[n] positions on the CPU, or None."""
        self.n = n_samples
        """How many rows there are."""
        self.n_with_spare = n_samples
        """With one more for all that is not recorded, where leaving it out would mean to wait for the device."""
        self._row_of: Tensor | None = None
        if samples is not None:
            self.samples = samples = samples.cpu().clone()
            if samples.dim() != 1 or samples.dtype != torch.long or not len(samples.unique()) == len(samples) > 0:
                raise ValueError(
                    f"samples must be different positions in the training split, int64 [n] with n of at least 1."
                    f" Got {samples.dtype} {list(samples.shape)} with {len(samples.unique())} different ones."
                )
            self._require_in_range("samples", int(samples.min()), int(samples.max()))
            self.n, self.n_with_spare = len(samples), len(samples) + 1
            self._row_of = torch.full((n_samples,), len(samples)).index_copy_(0, samples, torch.arange(len(samples)))

    def check(self, index: Tensor, n: int) -> None:
        """Refuse an index that is not that of a batch of n samples of the split."""
        if index.shape != (n,) or index.is_floating_point() or index.dtype == torch.bool:
            raise ValueError(
                f"index must hold one integer per sample of the batch, [{n}]: its position in the training split."
                f" Got {index.dtype} {list(index.shape)}."
            )
        if n and waiting.is_at_hand(index):
            # In one reduction, because record() is mostly such calls: as unsigned numbers, negative ones are too large.
            numbers = index.numpy()
            if numbers.dtype != np.int64 or numbers.view(np.uint64).max() >= self._n_samples:
                self._require_in_range("index", int(numbers.min()), int(numbers.max()))

    def of_batch(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows of a batch, and which samples of it are recorded (None: all, or the others go to the spare row)."""
        if self._row_of is None:
            return index.long(), None
        self._row_of = self._row_of.to(index.device)
        rows = self._row_of[index]
        if not waiting.is_at_hand(rows):
            return rows, None
        kept = rows < self.n
        return rows[kept], kept

    def of(self, samples: Tensor | None) -> Tensor:
        """Rows of chosen samples, on the CPU.

        Raises:
            ValueError: If one is not recorded.
        """
        if samples is None:
            return torch.arange(self.n)
        self.check(samples, len(samples))
        rows = samples.cpu().long() if self._row_of is None else self._row_of.cpu()[samples.cpu()]
        if bool((rows == self.n).any()):
            raise ValueError(f"Samples {samples.cpu()[rows == self.n].tolist()} are not among the recorded ones.")
        return rows

    def same(self, samples: Tensor | None) -> bool:
        """Whether these are the recorded samples, in the same order."""
        if self.samples is None or samples is None:
            return self.samples is samples
        return torch.equal(self.samples, samples)

    def _require_in_range(self, what: str, low: int, high: int) -> None:
        if not 0 <= low <= high < self._n_samples:
            raise ValueError(
                f"{what} must be between 0 and {self._n_samples - 1}, the positions in the training split."
                f" Got {low} to {high}. Was n_samples another split's size?"
            )
