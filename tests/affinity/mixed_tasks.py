"""Tasks of every kind, and their data maps computed sample by sample from a stored history."""

import numpy as np
import torch

from cotrain import Task, TaskSet

MIXED = TaskSet(
    [
        Task("number", "regression", location=2.0, scale=3.0),
        Task("first", "binary"),
        Task("few", "multiclass", 3),
        Task("own", "custom", 2, loss=lambda outputs, targets: (outputs.sum(1) - targets).abs()),
        Task("second", "binary"),
        Task("many", "multiclass", 5),
    ]
)
WIDTH = MIXED.n_outputs


def random_epoch(n, generator, missing=0.3):
    """One visit of every sample: outputs [N, O] and targets [N, T]."""
    outputs = 2 * torch.randn(n, WIDTH, generator=generator)
    targets = torch.stack(
        [
            torch.randn(n, generator=generator),
            torch.randint(2, (n,), generator=generator).float(),
            torch.randint(3, (n,), generator=generator).float(),
            torch.randn(n, generator=generator),
            torch.randint(2, (n,), generator=generator).float(),
            torch.randint(5, (n,), generator=generator).float(),
        ],
        dim=1,
    )
    unlabelled = torch.rand(n, len(MIXED), generator=generator) < missing
    targets[unlabelled] = torch.nan
    targets[:, [1, 2]] = targets[:, [1, 2]].nan_to_num(-100)  # the other way to say that there is no class
    return outputs, targets


def confidence_of(outputs, targets):
    """One visit of one epoch, sample by sample and task by task: values and correctness [N, T], NaN unlabelled."""
    n = len(outputs)
    values, right = np.full((n, len(MIXED)), np.nan), np.full((n, len(MIXED)), np.nan)
    for t, task in enumerate(MIXED):
        z = outputs[:, MIXED.slices[task.name]].double().numpy()
        y = targets[:, t].double().numpy()
        known = ~np.isnan(y) & ((y != -100) | (task.kind in ("regression", "custom")))
        residuals = {}
        for i in np.flatnonzero(known):
            if task.kind == "binary":
                p = 1 / (1 + np.exp(-z[i, 0]))
                values[i, t] = 1 - abs(y[i] - p)
                right[i, t] = (p > 0.5) == (y[i] == 1)
            elif task.kind == "multiclass":
                p = np.exp(z[i]) / np.exp(z[i]).sum()
                chance = 1 / len(p)
                values[i, t] = (p[int(y[i])] - chance) / (1 - chance)
                right[i, t] = p.argmax() == y[i]
            elif task.kind == "regression":
                residuals[i] = abs(z[i, 0] - (y[i] - 2) / 3)
            else:
                residuals[i] = abs(z[i].sum() - y[i])
        for i, residual in residuals.items():
            rank = sum(other < residual for other in residuals.values()) + 1
            values[i, t] = 1 - (rank - 0.5) / len(residuals)
            right[i, t] = values[i, t] > 0.5
    return values, right


class PlainHistory:
    """Every visit of every entry in lists, and statistics of them by their definitions."""

    def __init__(self, n):
        self.entries = [[[] for _ in MIXED] for _ in range(n)]
        self.epochs = 0

    def add_epoch(self, index, outputs, targets):
        ranked = [task.kind in ("regression", "custom") for task in MIXED]
        last = list({int(i): row for row, i in enumerate(index)}.values())  # ranked tasks count the last visit
        for rows, kept in ((list(range(len(index))), np.logical_not(ranked)), (last, np.array(ranked))):
            values, right = confidence_of(outputs[rows], targets[rows])
            for row, value, correct in zip(rows, values, right, strict=True):
                for t in np.flatnonzero(kept & ~np.isnan(value)):
                    self.entries[int(index[row])][t].append((self.epochs, value[t], correct[t]))
        self.epochs += 1

    def maps(self, start, stop, *, decay=1.0, ddof=1):
        """Confidence, variability, correctness and visits [N, T] of the epochs from start to before stop."""
        found = np.full((4, len(self.entries), len(MIXED)), np.nan)
        for i, row in enumerate(self.entries):
            for t, visits in enumerate(row):
                visits = np.array([visit[1:] for visit in visits if start <= visit[0] < stop]).reshape(-1, 2)
                n = len(visits)
                found[3, i, t] = n
                if n:
                    weights = decay ** np.arange(n)[::-1]
                    total = weights.sum()
                    mean, share = weights @ visits / total
                    spread = weights @ (visits[:, 0] - mean) ** 2
                    divisor = total - ddof * (weights**2).sum() / total
                    found[:3, i, t] = mean, 0 if n == 1 else np.sqrt(spread / divisor), share
        return found


def assert_maps(maps, expected, atol):
    np.testing.assert_array_equal(maps.visits.numpy(), expected[3])
    for name, values in zip(("confidence", "variability"), expected, strict=False):
        found = getattr(maps, name)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), values, rtol=0, atol=atol, err_msg=name)
    np.testing.assert_allclose(
        maps.correctness.numpy(), expected[2], rtol=0, atol=min(atol, 1e-2) if atol > 1e-5 else atol
    )
