"""The page's colours, by role, for a light and a dark screen; readable without colour vision.

Figures name a role (`"@grouped"`); the page puts the colour in, so one figure serves screen, dark and print.
"""

from collections.abc import Mapping

# Blue against orange is the pair that every common colour-vision deficiency keeps apart.
LIGHT: Mapping[str, str] = {
    "page": "#ffffff",
    "panel": "#f5f6f8",
    "ink": "#1b1f24",
    "muted": "#5b6470",
    "rule": "#d9dde3",
    "missing": "#d3d8de",
    "single": "#3c444f",
    "all-in-one": "#c4570c",
    "grouped": "#0b63b0",
    "random": "#8d97a5",
    "hurts": "#b04a00",
    "hurts-some": "#eeb07c",
    "neutral": "#faf9f6",
    "helps-some": "#86b7e0",
    "helps": "#0a4d8c",
    "few": "#d3e3f3",
    "some": "#5f9fd6",
    "many": "#0a3e72",
    "share": "#6ea8da",
}
DARK: Mapping[str, str] = {
    "page": "#15181c",
    "panel": "#1e2227",
    "ink": "#e8eaed",
    "muted": "#a3acb8",
    "rule": "#363c44",
    "missing": "#3b4149",
    "single": "#d3d8df",
    "all-in-one": "#f2954b",
    "grouped": "#62aef0",
    "random": "#7f8998",
    "hurts": "#ffb066",
    "hurts-some": "#a5622a",
    "neutral": "#1b1f24",
    "helps-some": "#2f6da3",
    "helps": "#8ecbff",
    "few": "#22384d",
    "some": "#3f80bb",
    "many": "#c5e3ff",
    "share": "#34699b",
}
DIVERGING = [[0.0, "@hurts"], [0.25, "@hurts-some"], [0.5, "@neutral"], [0.75, "@helps-some"], [1.0, "@helps"]]
SEQUENTIAL = [[0.0, "@few"], [0.5, "@some"], [1.0, "@many"]]
WRITTEN_ON = [[0.0, "@few"], [1.0, "@share"]]
"""Plotly colour scales: around 0, from small to large, and the same where numbers are written on it in ink."""


def css_variables(colours: Mapping[str, str]) -> str:
    """The colours as declarations of CSS variables, `--role: colour;`."""
    return " ".join(f"--{role}: {colour};" for role, colour in colours.items())


RANDOM_COLOUR = "@random"
"""Every control and random cover has the same colour: they are there to be compared with."""


def arm_colour(arm: str) -> str:
    """The role of an arm's colour."""
    return f"@{arm}" if arm in ("single", "all-in-one", "grouped") else RANDOM_COLOUR
