"""Published data sets that have a format of their own, recognised by the folders they come in."""

from __future__ import annotations

from terrazzo.data import datasets
from terrazzo.workflows.init.layout import Layout, Tree

_FOLDERS: dict[str, tuple[str, ...]] = {
    "camvid": ("train", "trainannot", "val", "valannot", "test", "testannot"),
    "oxford_pet": ("images", "annotations/trimaps"),
    "cityscapes": ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"),
    "loveda": ("Train/Urban/images_png", "Train/Urban/masks_png", "Val/Urban/images_png"),
}
_FILES: dict[str, tuple[str, ...]] = {
    "oxford_pet": ("annotations/trainval.txt", "annotations/test.txt"),
}


def detect(tree: Tree) -> Layout | None:
    """Recognise a published data set by all of its folders and lists being there."""
    files = {
        f"{lead}/{name}" if lead else name for lead, names in tree.files.items() for name in names
    }
    for name, folders in _FOLDERS.items():
        has_folders = all(
            any(lead == folder or lead.startswith(f"{folder}/") for lead in tree.pictures)
            for folder in folders
        )
        if has_folders and files.issuperset(_FILES.get(name, ())):
            return Layout(
                tree.root,
                name,
                {},
                {"format": f"the folders are those of {name}: {', '.join(folders)}"},
                labels=datasets.load_format(name).LABELS,
            )
    return None
