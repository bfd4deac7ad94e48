import torch

from cotrain import Task
from cotrain.affinity.codes import Codes

TASKS = [Task("yes", "binary"), *(Task(f"of {n}", "multiclass", n) for n in (2, 3, 10))]
ROUNDING = 1e-6


def confidences(n):
    """Of random outputs: values, right and bounds of the error [n, T], with every extreme among them."""
    generator = torch.Generator().manual_seed(0)
    values, right, bounds = [], [], []
    for task in TASKS:
        logits = 4 * torch.randn(n, max(task.n_outputs, 2), generator=generator)
        logits[:4] = torch.eye(2, logits.shape[1])[[0, 1, 0, 1]] * torch.tensor([[99.0], [99.0], [1e-6], [1e-6]])
        p = logits.double().softmax(1)
        chance = 0.0 if task.kind == "binary" else 1 / task.n_outputs
        values.append((p[:, 0] - chance) / (1 - chance))
        right.append(p.argmax(1) == 0)
        wrong_bound = 0.002 / (1 - chance)
        bounds.append(torch.where(right[-1], 0.002 if task.kind == "binary" else 0.004, wrong_bound))
    return torch.stack(values, 1).float(), torch.stack(right, 1).float(), torch.stack(bounds, 1)


def test_a_byte_is_off_by_no_more_than_it_says_and_knows_what_is_right():
    values, right, bounds = confidences(2000)
    codes = Codes(TASKS)
    found, correct, seen = codes.decode(codes.encode(values, right, None))
    assert torch.equal(correct, right)
    assert seen.all()
    error = (found - values).abs()
    assert (error < bounds + ROUNDING).all()
    assert (error.amax(0) > 0.9 * bounds.amin(0)).all()  # it is not stated too large


def test_what_is_not_seen_stays_so_whatever_its_value():
    values, right, _ = confidences(50)
    seen = torch.rand(values.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    codes = Codes(TASKS)
    bytes_ = codes.encode(values, right, seen)
    assert bytes_.dtype == torch.uint8
    assert torch.equal(codes.decode(bytes_)[2], seen)
    assert torch.equal(bytes_ == 0, ~seen)


def test_every_byte_survives_the_way_there_and_back():
    codes = Codes(TASKS)
    bytes_ = torch.arange(1, 256, dtype=torch.uint8).unsqueeze(1).expand(-1, len(TASKS)).contiguous()
    values, right, seen = codes.decode(bytes_)
    assert torch.equal(codes.encode(values, right, seen), bytes_)
