"""What tests of commands share."""


def sentence(err):
    """Standard error, which must be one line for the user."""
    line = err.strip()
    assert line.startswith("cotrain: ")
    assert "\n" not in line
    return line.removeprefix("cotrain: ")
