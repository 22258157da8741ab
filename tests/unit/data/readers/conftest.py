from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures, a text that calls itself one, and a picture outside of it."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "a.png")
    Image.new("RGB", (20, 20), "blue").save(folder / "b.jpg")
    (folder / "text.png").write_text("no picture")
    Image.new("RGB", (20, 20)).save(tmp_path / "outside.png")
    return folder
