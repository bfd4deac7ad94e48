import json

import pytest

from cotrain.extras import require


def test_an_installed_module_is_given():
    assert require("json", extra="table") is json


def test_a_missing_one_names_the_command_that_installs_it():
    with pytest.raises(ImportError, match=r'needs not_there, .* pip install "cotrain\[table\]"'):
        require("not_there.inner", extra="table")


def test_a_module_that_is_broken_in_itself_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_by_import.py").write_text("import not_there_either")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_either") as caught:
        require("broken_by_import", extra="table")
    assert "cotrain" not in str(caught.value)
