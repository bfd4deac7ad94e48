from io import StringIO

from rich.console import Console

from cotrain.progress import progress_bar, silent


def shown(width: int = 120, **arguments) -> str:
    text = StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    with progress_bar(arguments.pop("description", "Training"), console) as listen:
        listen(*arguments.pop("call", (3, 10, "epoch 1/4")))
    return text.getvalue()


def test_the_bar_shows_description_count_and_note():
    text = shown()
    assert "Training" in text
    assert "3/10" in text
    assert "epoch 1/4" in text


def test_brackets_in_names_are_text():
    text = shown(description="Training [/a]", call=(1, 2, "task [b] [/c]"))
    assert "Training [/a]" in text
    assert "task [b] [/c]" in text


def test_the_bar_goes_to_standard_error(capsys):
    with progress_bar("Training") as listen:
        listen(1, 1, "done")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Training" in captured.err


def test_silent_says_nothing(capsys):
    silent(1, 2, "note")
    assert capsys.readouterr() == ("", "")
