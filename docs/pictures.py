"""Draw the site's pictures from a trained quickstart: `make pictures` needs a Chromium, for two of them.

The pages of the report and of `serve` as a browser shows them, an explanation, and the flow of data. W&B's dashboard is
on its own site, behind an account, and has no picture here.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import browser as chromium
from PIL import Image

from emoshare.inference.model import Model, load_model
from emoshare.inference.page import server

ROOT = Path(__file__).parents[1]
DOCS, SWEEP, CLIP = ROOT / "docs", ROOT / "outputs/quickstart", ROOT / "data/demo-300-0/wav/44a454.wav"
SIZE = (1100, 900)  # CSS pixels of the window
FLOW = (  # what flows, and in what form
    ("corpus", "csv + audio"), ("window", "(B, N)"), ("backbone", "frozen"), ("frame store", "(N, T, D)"),
    ("head", "mlp, svr …"), ("shares", "(B, E)"), ("metrics", "SCC, CCC"), ("run folder", "results.json"),
    ("report", "tables, figures"),
)  # fmt: skip
ACROSS, WIDTH, HEIGHT, GAP = 3, 150, 54, 46  # boxes in a row; pixels of a box and between two


def flow() -> str:
    """The flow of data as an SVG: boxes in rows that are read like text, with arrows from one to the next."""
    columns, lines = ACROSS * (WIDTH + GAP) - GAP, -(-len(FLOW) // ACROSS)
    parts = []
    for number, (name, form) in enumerate(FLOW):
        row, column = divmod(number, ACROSS)
        x, y = column * (WIDTH + GAP) + 1, row * (HEIGHT + GAP) + 1
        parts.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#eef3fb" stroke="#4477aa"/>'
        )
        parts.append(f'<text x="{x + WIDTH / 2}" y="{y + 23}" font-weight="bold">{name}</text>')
        parts.append(f'<text x="{x + WIDTH / 2}" y="{y + 42}" fill="#555">{form}</text>')
        if column < ACROSS - 1:
            path = f"M{x + WIDTH} {y + HEIGHT / 2}h{GAP - 7}"
        else:
            path = f"M{x + WIDTH / 2} {y + HEIGHT}v{GAP / 2}H{WIDTH / 2}v{GAP / 2 - 7}"
        if number < len(FLOW) - 1:
            parts.append(f'<path d="{path}" fill="none" stroke="#4477aa" stroke-width="2" marker-end="url(#tip)"/>')
    tip = '<path d="M0 0L5 3L0 6z" fill="#4477aa"/>'
    tip = f'<marker id="tip" markerWidth="5" markerHeight="6" refY="3" orient="auto">{tip}</marker>'
    size = f"{columns + 2} {lines * (HEIGHT + GAP) - GAP + 2}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="14" '
        f'text-anchor="middle"><defs>{tip}</defs>{"".join(parts)}</svg>\n'
    )


@contextmanager
def serving(models: list[Model]) -> Iterator[str]:
    """The address of the page of some models, as `emoshare serve` opens it."""
    ready = threading.Event()
    with server.bind("127.0.0.1", 0) as bound:
        running = server.make_server(models, bound, ready.set)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            assert ready.wait(60), "the page did not start within 60 s"
            yield server.address(bound)
        finally:
            running.should_exit = True
            thread.join(10)


def shrink(path: Path, width: int) -> None:
    """Write a picture anew with at most `width` columns and 128 colours."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")  # first: palettes are resized without mixing colours
    picture.thumbnail((width, 10 * width))
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def photograph(folder: Path) -> None:
    """Write docs/report.png and docs/serve.png. folder: for the browser's profile."""
    runs = [next(SWEEP.glob(f"{name}-5.5s-*/results.json")).parent for name in ("logmel", "prosody-svr")]
    with chromium.browser(folder) as page, serving([load_model(run, "cpu") for run in runs]) as address:
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        page.look(*SIZE)
        page.call("Page.navigate", url=(SWEEP / "report/index.html").as_uri())
        page.wait("document.readyState == 'complete' && document.images.length > 0")
        page.picture(DOCS / "report.png", whole=False)
        page.look(SIZE[0], 700)
        page.open(f"{address}/")
        page.choose(CLIP)
        page.wait("!document.querySelector('#play').disabled", 60)
        page.picture(DOCS / "serve.png", whole=False)


def main() -> None:
    """Write the pictures into docs/; docs/explain.png is there already, as `emoshare explain` has drawn it."""
    (DOCS / "flow.svg").write_text(flow(), encoding="utf-8")
    shrink(DOCS / "explain.png", 1100)
    if chromium.PROGRAM is None:
        sys.exit("no Chromium here, so that report.png and serve.png stay as they are: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        photograph(Path(folder))
    for name in ("report", "serve"):
        shrink(DOCS / f"{name}.png", SIZE[0])


if __name__ == "__main__":
    main()
