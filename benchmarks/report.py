"""The page that compares 6 runs on 200 images: its size, and how fast Chromium opens it.

    python benchmarks/report.py [--runs 6] [--images 200] [--rounds 5] [--keep compare.html]

The runs are drawn: 19 classes, eight images of 2048×1008 to look at each, borders, calibration
and a map. Images are noisy and predictions ragged, the worst that they can do to a file.
Opening is from the request to the end of the load event, as Chromium's own clock has it, in a new
window each round; the first is cold. Needs chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from terrazzo.comparison import compare
from terrazzo.data import labels
from terrazzo.report import write_comparison
from terrazzo.testing.browser import Browser, driver
from terrazzo.testing.compared_runs import write_run

OPENED = """
const [page] = performance.getEntriesByType('navigation');
const [painted] = performance.getEntriesByName('first-contentful-paint');
return [page.loadEventEnd, painted ? painted.startTime : NaN];
"""


def opened(page: Path, rounds: int) -> list[tuple[float, float, int]]:
    """Return milliseconds until loaded and until painted, and lines of the console, a round."""
    found = []
    with driver() as port:
        for _ in range(rounds):
            browser = Browser(port)
            browser.open(page)
            loaded, painted = browser.script(OPENED)
            found.append((loaded, painted, len(browser.close())))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            write_run(
                Path(folder) / f"run_{number}",
                error=0.05 + 0.04 * number,
                seed=number,
                label_map=labels.load_label_map("cityscapes_19"),
                num_images=given.images,
                size=(252, 512),
                num_drawn=19,
                num_examples=8,
                noisy=True,
            )
            for number in range(given.runs)
        ]
        start = time.perf_counter()
        comparison = compare.compare(runs)
        compared = time.perf_counter() - start
        page = Path(folder) / "compare.html"
        write_comparison(comparison, page)
        written = time.perf_counter() - start - compared
        size = page.stat().st_size / 1e6
        print(f"compared in {compared:.1f} s, page written in {written:.1f} s, {size:.2f} MB")
        loads, paints, lines = zip(*opened(page, given.rounds), strict=True)
        print(f"loaded: median {statistics.median(loads):.0f} ms, worst {max(loads):.0f} ms")
        print(f"first paint: median {statistics.median(paints):.0f} ms")
        print(f"lines of the console: {sum(lines)}")
        if given.keep:
            shutil.copy(page, given.keep)


if __name__ == "__main__":
    main()
