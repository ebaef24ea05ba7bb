"""Pictures with a palette: a third of the bytes of a screenshot, with no library but numpy.

    python benchmarks/palette.py docs/bench.png docs/growth.png

writes files anew with 256 colours; ``pictures.py`` does the same with what it takes.
"""

import base64
import shutil
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
NUM_COLOURS = 256
# The browser reads its own pictures; no other reader of PNG is among our dependencies.
PIXELS = """async (png) => {
    const bytes = Uint8Array.from(atob(png), (one) => one.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const { data } = canvas.getImageData(0, 0, image.width, image.height);
    let text = "";
    for (let at = 0; at < data.length; at += 0x8000)
        text += String.fromCharCode(...data.subarray(at, at + 0x8000));
    return [image.width, image.height, btoa(text)];
}"""


def small(png: bytes, page: Any) -> bytes:
    """The picture with at most 256 colours; ``page`` is any page of a browser."""
    width, height, text = page.evaluate(PIXELS, base64.b64encode(png).decode())
    pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 4)[:, :3]
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, which, counts = np.unique(packed, return_inverse=True, return_counts=True)
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.float32)
    palette = chosen(rgb, counts)
    nearest = np.concatenate([
        ((part[:, None] - palette[None]) ** 2).sum(axis=2).argmin(axis=1)
        for part in np.array_split(rgb, len(rgb) // 4096 + 1)
    ])  # fmt: skip
    return encoded(nearest[which].astype(np.uint8).reshape(height, width), palette)


def chosen(rgb: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The colours of a palette: boxes of colours, the one that errs most split at its mean."""
    boxes = [np.arange(len(rgb))]
    while len(boxes) < min(NUM_COLOURS, len(rgb)):
        spreads = [spread(rgb[one], counts[one]) for one in boxes]
        box = boxes.pop(int(np.argmax([one.max() for one in spreads])))
        axis = int(np.argmax(spread(rgb[box], counts[box])))
        is_above = rgb[box, axis] > np.average(rgb[box, axis], weights=counts[box])
        if is_above.all() or not is_above.any():
            boxes.append(box)
            break
        boxes += [box[is_above], box[~is_above]]
    means = [np.average(rgb[one], axis=0, weights=counts[one]) for one in boxes]
    return np.rint(means).astype(np.float32)


def spread(rgb: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How far colours are from their mean in all, by channel; rare ones count by their root."""
    weights = np.sqrt(counts)[:, None]
    mean = (rgb * weights).sum(axis=0) / weights.sum()
    return np.asarray(((rgb - mean) ** 2 * weights).sum(axis=0))


def encoded(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG of indices into a palette."""
    height, width = indices.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), indices], axis=1)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def main() -> None:
    """Write the files of the command line anew, unless that makes them larger."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        for path in map(Path, sys.argv[1:]):
            before = path.read_bytes()
            after = small(before, page)
            if len(after) < len(before):
                path.write_bytes(after)
            print(f"{path}: {len(before):,} to {len(path.read_bytes()):,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
