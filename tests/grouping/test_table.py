import numpy as np
import pytest

from cotrain.grouping.table import GainTable

NAN = np.nan
LOSSES = "group,task,val_loss,std\na,a,2,.1\nb,b,4,.2\nb+a,a,1,.3\na+b,b,5,.4\n"


def write(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def test_losses_become_gains_over_the_singles(tmp_path):
    table = GainTable.from_csv(write(tmp_path, LOSSES), "val_loss", std_column="std")
    assert table.groups == (("a",), ("b",), ("a", "b"))
    np.testing.assert_allclose(table.gains, [[0, NAN], [NAN, 0], [0.5, -0.25]])
    np.testing.assert_allclose(table.std, [[0.1, NAN], [NAN, 0.2], [0.3, 0.4]])
    np.testing.assert_array_equal(table.single_losses, [2, 4])


def test_a_table_that_a_spreadsheet_wrote_is_read(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("group,task,gain\nGröße+b,Größe,.5\nGröße+b,b,-1\n", encoding="utf-8-sig")
    assert GainTable.from_csv(path, "gain").tasks == ("Größe", "b")


def test_a_gain_column_is_taken_as_it_is(tmp_path):
    table = GainTable.from_csv(write(tmp_path, "group,task,gain\na+b,a,.5\na+b,b,-1\n"), "gain")
    np.testing.assert_array_equal(table.gains, [[0.5, -1]])
    assert table.single_losses is None


def test_kind_decides_where_the_name_does_not(tmp_path):
    path = write(tmp_path, "group,task,error\na,a,2\nb,b,4\na+b,a,1\na+b,b,5\n")
    with pytest.raises(ValueError, match="kind='loss'"):
        GainTable.from_csv(path, "error")
    np.testing.assert_allclose(GainTable.from_csv(path, "error", kind="loss").gains[2], [0.5, -0.25])
    np.testing.assert_allclose(GainTable.from_csv(path, "error", kind="gain").gains[2], [1, 5])


@pytest.mark.parametrize("kind", ["gains", "losses", "Loss"])
def test_an_unknown_kind_is_no_loss(tmp_path, kind):
    """It was read as one, so that gains became their opposite without a word."""
    path = write(tmp_path, "group,task,gain\na,a,0\nb,b,0\na+b,a,.5\na+b,b,.5\n")
    with pytest.raises(ValueError, match=f"kind must be 'auto', 'loss' or 'gain'. Got '{kind}'"):
        GainTable.from_csv(path, "gain", kind=kind)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group,task,loss\na,a,1\n", "no column 'val_loss'"),
        ("group,task,val_loss\na,a,1\nb,b,nan\n", "line 3: group b, task b"),
        ("group,task,val_loss\na,a,1\nb,b,x\n", "Got 'x'"),
        ("group,task,val_loss\na,a,1\nb,b\n", "Got ''"),
        ("group,task,val_loss\na,a,1\nb,b,1\na+b,a,inf\na+b,b,1\n", "group a\\+b, task a"),
        ("group,task,val_loss\na,a,1\nb,b,1\na+b,a,1\n", "group a\\+b has no row for its member 'b'"),
        ("group,task,val_loss\na,a,1\nb,b,1\na+b,a,1\na+b,b,1\nb+a,a,1\n", "group b\\+a has two rows"),
        ("group,task,val_loss\na,a,1\nb,a,1\nb,b,1\n", "'a' has a row in group b"),
        ("group,task,val_loss\na,a,1\na+b,a,1\na+b,b,1\n", "'b' was not trained alone"),
        ("group,task,val_loss\na,a,0\nb,b,1\n", "'a' alone has loss 0"),
        ("group,task,val_loss\na,a,1\n", "at least 2 tasks"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        GainTable.from_csv(write(tmp_path, text), "val_loss")


@pytest.mark.parametrize(
    ("groups", "gains", "options", "message"),
    [
        ([("a", "b")], [[0.1, NAN]], {}, "gain of task 'b' in group a\\+b is not a finite"),
        ([("a", "b")], [[np.inf, 0]], {}, "group a\\+b"),
        ([("a",)], [[0, 0]], {}, "must be NaN"),
        ([("a", "b"), ("b", "a")], [[0, 0], [0, 0]], {}, "Group a\\+b is there twice"),
        ([("a", "b")], [[0, 0, 0]], {}, "\\[1, 2\\]"),
        ([("a", "b")], [[0, 0]], {"std": [[-1, 0]]}, "std of group a\\+b is negative"),
        ([("a", "b")], [[0, 0]], {"single_losses": [1, 0]}, "single_losses"),
        ([("a", "b")], [[0, 0]], {"single_losses": [1]}, "single_losses"),
    ],
)
def test_bad_arrays_are_refused(groups, gains, options, message):
    with pytest.raises(ValueError, match=message):
        GainTable(["a", "b"], groups, gains, **options)


def test_prediction_is_the_measurement_and_nan_elsewhere():
    table = GainTable(["a", "b", "c"], [("b", "a")], [[0.1, 0.2, NAN]], [[0.01, 0.02, NAN]])
    mean, std = table.predict([{"a", "b"}, ("c",), ("a", "c")])
    np.testing.assert_array_equal(mean, [[0.1, 0.2, NAN], [NAN, NAN, 0], [NAN, NAN, NAN]])
    np.testing.assert_array_equal(std, [[0.01, 0.02, NAN], [NAN, NAN, 0], [NAN, NAN, NAN]])
    assert table.measured([("a", "b"), ("c",), ("a", "c")]).tolist() == [True, True, False]


def test_written_and_read_it_is_the_same(tmp_path):
    table = GainTable.from_csv(write(tmp_path, LOSSES), "val_loss", std_column="std")
    table.to_csv(tmp_path / "copy.csv")
    for column in ("gain", "loss"):
        copy = GainTable.from_csv(tmp_path / "copy.csv", column, std_column="std")
        assert copy.groups == table.groups
        np.testing.assert_allclose(copy.gains, table.gains, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(copy.std, table.std)
    np.testing.assert_allclose(copy.single_losses, table.single_losses)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.csv", "table.csv"]


def test_a_plus_in_a_name_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="'a\\+b'"):
        GainTable(["a+b", "c"], [("c",)], [[NAN, 0]]).to_csv(tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def test_further_groups_make_a_new_table():
    table = GainTable(["a", "b", "c"], [("b", "a")], [[0.1, 0.2, NAN]], [[0.01, 0.02, NAN]], [1, 2, 3])
    longer = table.with_groups([{"c", "a"}], [[0.3, NAN, 0.4]])
    assert table.groups == (("a", "b"),)
    assert longer.groups == (("a", "b"), ("a", "c"))
    np.testing.assert_array_equal(longer.gains, [[0.1, 0.2, NAN], [0.3, NAN, 0.4]])
    np.testing.assert_array_equal(longer.std, [[0.01, 0.02, NAN], [0, NAN, 0]])
    np.testing.assert_array_equal(longer.single_losses, [1, 2, 3])
    noisy = table.with_groups([("a", "c")], [[0.3, NAN, 0.4]], [[0.1, NAN, 0.2]])
    np.testing.assert_array_equal(noisy.std[1], [0.1, NAN, 0.2])
    same = table.with_groups([], np.empty((0, 3)))
    assert same.groups == table.groups
    with pytest.raises(ValueError, match="Group a\\+b is there twice"):
        table.with_groups([("a", "b")], [[0, 0, NAN]])
    with pytest.raises(ValueError, match="gain of task 'c' in group a\\+c is not a finite"):
        table.with_groups([("a", "c")], [[0, NAN, NAN]])
    with pytest.raises(ValueError, match="std of group a\\+c is negative"):
        table.with_groups([("a", "c")], [[0, NAN, 0]], [[0, NAN, -1]])


def test_some_rows_make_a_new_table():
    groups = [("a", "b"), ("a", "c"), ("b", "c")]
    gains = [[0.1, 0.2, NAN], [0.3, NAN, 0.4], [NAN, 0.5, 0.6]]
    table = GainTable(["a", "b", "c"], groups, gains, np.abs(gains), [1, 2, 3])
    for keep in ([True, False, True], [0, 2], np.array([0, -1])):
        some = table.rows(keep)
        assert some.groups == (groups[0], groups[2])
        np.testing.assert_array_equal(some.gains, [gains[0], gains[2]])
        np.testing.assert_array_equal(some.std, [gains[0], gains[2]])
        np.testing.assert_array_equal(some.single_losses, [1, 2, 3])
    for nothing in ([], [False] * 3):
        assert table.rows(nothing).groups == ()
    assert table.rows([2, 0]).groups == (groups[2], groups[0])
    with pytest.raises(ValueError, match="Group a\\+b is there twice"):
        table.rows([0, 0])
