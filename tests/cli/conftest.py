"""What tests of commands share: settings that touch nothing outside of temporary folders."""

from pathlib import Path

import pytest

from facesvc.config import GallerySettings, ModelSettings, ServerSettings, Settings


@pytest.fixture
def settings(pack_cache: Path, tmp_path: Path) -> Settings:
    """The default pack, an own gallery, any free port."""
    return Settings(
        models=ModelSettings(cache_dir=pack_cache),
        gallery=GallerySettings(path=tmp_path / "data" / "gallery.db"),
        server=ServerSettings(listen="127.0.0.1:0"),
    )
