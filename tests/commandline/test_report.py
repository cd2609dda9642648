"""The report: what it says, that it needs nothing else, and how Chromium shows it."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lipbounds.commandline.app import app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Written into the page's title: how many pictures there are, how many are shown in full, and
# whether the page is wider than the window.
PROBE = """<script>
window.addEventListener("load", () => {
  const pictures = [...document.images];
  const shown = pictures.filter(one => one.complete && one.naturalWidth > 0
    && one.getBoundingClientRect().right <= window.innerWidth);
  const wide = document.documentElement.scrollWidth > window.innerWidth;
  document.title = JSON.stringify({pictures: pictures.length, shown: shown.length, wide: wide});
});
</script></body>"""


def made(folder, *options):
    result = CliRunner().invoke(
        app, ["bounds", *map(str, options), "--out", str(folder / "r.html")]
    )
    assert result.exit_code == 0, result.output
    return (folder / "r.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of a small CNN in a file whose name needs escaping."""
    folder = tmp_path_factory.mktemp("report")
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    path = folder / "a<b>&c.onnx"
    torch.onnx.export(nn.Sequential(*layers), (torch.zeros(1, 1, 6, 6),), path, dynamo=False)
    return made(folder, path, "--time", 6, "--method", "paper", "--method", "K_5")


def test_it_says_what_the_table_says(page):
    assert "<title>a&lt;b&gt;&amp;c.onnx: how much its output can move</title>" in page
    assert "a<b>" not in page
    assert "1 x 6 x 6 inputs, 3 outputs, 2 stages; it differs" in page
    for norm in ("l1", "l2", "linf"):
        found = re.search(
            rf"In {norm} the output moves at most ([\d.]+) times as far as the input \(\w+\), "
            r"and at least ([\d.]+) times",
            page,
        )
        assert 0 < float(found[2]) <= float(found[1])
        assert f'<td class="number">{found[1]}</td>' in page
    for words in ("K_star", "implicit", "explicit", "stage 1", "maxima", "lipbounds"):
        assert words in page


def test_it_needs_nothing_else(page):
    assert not re.search(r"""(src|href)=["'](?!data:)|@import|url\(|<script""", page)


def test_where_nothing_ended_in_time(tmp_path):
    np.savez(tmp_path / "w.npz", W0=np.eye(3), W1=np.ones((2, 3)))
    options = ["bounds", str(tmp_path / "w.npz"), "--time", "0", "--out", str(tmp_path / "r.html")]
    assert CliRunner().invoke(app, options).exit_code == 4
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "In l2 no method ended in its time" in text and "no time was left" in text
    assert "Not drawn: the limit of seconds" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", (390, 1200))
def test_chromium_shows_every_picture_and_says_nothing(page, width, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    options = ["--enable-logging=stderr", f"--window-size={width},900", "--dump-dom"]
    done = subprocess.run(
        [*command, *options, path.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert seen == {"pictures": 4, "shown": 4, "wide": False}
