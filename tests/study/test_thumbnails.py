import torch
from safetensors.torch import load_file

from cotrain.affinity import DataMaps
from cotrain.study.thumbnails import PER_TASK, write_thumbnails


def maps_of(confidence, variability):
    return DataMaps(confidence, variability, confidence, torch.ones_like(confidence).int(), ("a", "b"), 1)


def test_the_hardest_and_most_ambiguous_images_are_kept_with_their_places(tmp_path):
    generator = torch.Generator().manual_seed(0)
    confidence, variability = torch.rand(2, 30, 2, generator=generator)
    images = torch.arange(30.0)[:, None, None, None].expand(30, 1, 2, 3) - 4.0  # each of one grey, from -4 to 25
    write_thumbnails(tmp_path / "thumbnails", images, maps_of(confidence, variability))
    found = load_file(tmp_path / "thumbnails")
    for name, order in (
        ("hardest", confidence.argsort(0)),
        ("most_ambiguous", variability.argsort(0, descending=True)),
    ):
        shown, places = found[name], found[f"{name}_places"]
        assert shown.shape == (2, PER_TASK, 2, 3, 1)
        assert shown.dtype == torch.uint8
        for task in range(2):
            expected = order[:PER_TASK, task]
            torch.testing.assert_close(places[task], torch.stack([confidence, variability], 2)[expected, task])
            greys = shown[task, :, 0, 0, 0].float()
            assert torch.equal(greys.argsort(), expected.argsort())  # brighter images stay brighter
        assert (shown.min(), shown.max()) == (0, 255)


def test_images_without_a_label_are_not_shown(tmp_path):
    confidence = torch.full((20, 2), torch.nan)
    confidence[3, 0], confidence[[4, 5], 1] = 0.5, torch.tensor([0.2, 0.1])
    images = torch.arange(20.0)[:, None, None, None].expand(20, 3, 2, 2)
    write_thumbnails(tmp_path / "thumbnails", images, maps_of(confidence, confidence))
    places = load_file(tmp_path / "thumbnails")["hardest_places"]
    assert places[0, :, 0].eq(0.5).all()
    torch.testing.assert_close(places[1, :3, 0], torch.tensor([0.1, 0.2, 0.1]))


def test_inputs_that_are_no_images_have_none(tmp_path):
    confidence = torch.rand(10, 2)
    for shape in ((10, 4), (10, 2, 8, 8), (10, 8, 8)):
        write_thumbnails(tmp_path / "thumbnails", torch.zeros(shape), maps_of(confidence, confidence))
    assert not (tmp_path / "thumbnails").exists()
