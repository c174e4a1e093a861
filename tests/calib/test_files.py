"""Listing image files: the same from a folder and a .tar, and archives that are damaged or hostile."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.calib.files import list_folder, list_tar
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError
from tests.calib.images import png, write_folder, write_tar

FILES = {
    "b/2.PNG": png(2),
    "b/1.jpeg": png(1),
    "b/3.jfif": png(1),
    "b/4.Avif": png(1),
    "b/5.heic": png(1),
    "a/c/3.png": png(3),
    "notes.txt": b"text",
    "a/.hidden.png": png(9),
    ".git/4.png": png(9),
}
EXPECTED = [("a", "c", "3.png"), ("b", "1.jpeg"), ("b", "2.PNG"), ("b", "3.jfif"), ("b", "4.Avif"), ("b", "5.heic")]


def test_folder_and_tar_list_the_same(tmp_path: Path) -> None:
    folder = list_folder(write_folder(tmp_path / "images", FILES))
    archive = list_tar(write_tar(tmp_path / "images.tar", FILES))
    assert list(folder.images) == list(archive.images) == EXPECTED
    for parts in EXPECTED:
        assert folder.images[parts].read() == archive.images[parts].read() == FILES["/".join(parts)]


def test_folders_that_may_be_classes_without_an_image(tmp_path: Path) -> None:
    """Those with nothing in them, or with pictures that are not read; not those of texts, systems or hidden ones."""
    files = {"a/1.png": png(1), "b/.keep": b"", "c/2.JXL": b"", "d/notes.txt": b"", "__MACOSX/e/3.png": png(3)}
    root = write_folder(tmp_path / "images", files | {"f/Thumbs.db": b"", "@eaDir/4.png": png(4)})
    (root / "g" / "h").mkdir(parents=True)
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        archive.add(root, "images")
    folder, tar = list_folder(root), list_tar(tmp_path / "images.tar")
    assert list(folder.images) == [("a", "1.png")] and list(tar.images) == [("images", "a", "1.png")]
    assert folder.empty == {("b",), ("c",), ("f",), ("g",), ("g", "h")}
    assert tar.empty == {("images", *parts) for parts in folder.empty}


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a class; without it later ones would have other indices."""
    root = write_folder(tmp_path / "images", {"a/1.png": png(1), "b/2.png": png(2)})

    def scandir(path: str) -> object:
        if path.endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return original(path)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SqueezeEdgeError, match="images/b: cannot be read: Permission denied; make it readable"):
        list_folder(root)


def test_links_are_followed_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "real", {"1.png": png(1)})
    root = write_folder(tmp_path / "root", {"a/2.png": png(2)})
    (root / "b").symlink_to(tmp_path / "real")
    (root / "a" / "loop").symlink_to(root)
    assert list(list_folder(root).images) == [("a", "2.png"), ("b", "1.png")]


def test_what_is_called_an_image_and_is_none_is_listed_and_cannot_be_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "root", {"a/1.png": png(1), "b.png/2.png": png(2)})
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    (root / "a" / "folder.jpg").mkdir()
    (root / "c.png" / "empty").mkdir(parents=True)
    os.mkfifo(root / "a" / "pipe.png")
    listing = list_folder(root)
    bad = [("a", "folder.jpg"), ("a", "gone.png"), ("a", "pipe.png"), ("c.png",)]
    assert sorted(listing.images) == sorted([("a", "1.png"), ("b.png", "2.png"), *bad])
    for parts in bad:
        with pytest.raises(
            CorruptFileError, match=r"cannot be read: No such file|is a folder or a device, not an image file"
        ):
            listing.images[parts].read()


def test_names_of_members_are_not_paths(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    names = ["/etc/a.png", "../outside.png", "a/../../b.png", "x\ny/c.png", "ä/d.png", "//e/f.png"]
    listing = list_tar(write_tar(tmp_path / "a.tar", dict.fromkeys(names, png(1)))).images
    assert set(listing) == {("etc", "a.png"), ("x\ny", "c.png"), ("ä", "d.png"), ("e", "f.png")}
    assert "\n" not in str(listing["x\ny", "c.png"])
    assert not outside.exists()


def test_links_of_an_archive_are_followed_within_it(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a/1.png": png(1), "blob": png(2), "etc/passwd.png": png(3)})
    links = {
        "b/soft.png": (tarfile.SYMTYPE, "../a/1.png"),
        "b/hard.png": (tarfile.LNKTYPE, "a/1.png"),
        "b/far.png": (tarfile.SYMTYPE, "./mid"),
        "b/mid": (tarfile.SYMTYPE, "../blob"),
        "c/loop.png": (tarfile.SYMTYPE, "loop.png"),
        "c/out.png": (tarfile.SYMTYPE, "../../../etc/passwd"),
        "c/pipe.png": (tarfile.FIFOTYPE, ""),
    }
    with tarfile.open(path, "a") as archive:
        for name, (kind, target) in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    images = list_tar(path).images
    assert [images["b", name].read() for name in ("soft.png", "hard.png", "far.png")] == [png(1), png(1), png(2)]
    assert str(images["b", "soft.png"]).endswith("'b/soft.png'")
    for name in ("loop.png", "out.png", "pipe.png"):  # counted where they are read, as those of a folder
        with pytest.raises(CorruptFileError, match=rf"'c/{name}': holds nothing, is a device or a link to nothing"):
            images["c", name].read()


def test_the_last_of_two_members_counts(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.png": png(1)})
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("1.png")
        member.size = len(png(2))
        archive.addfile(member, io.BytesIO(png(2)))
    assert list_tar(path).images["1.png",].read() == png(2)


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 700, 1024, 1536, 2000])
def test_a_truncated_archive_is_an_error(tmp_path: Path, cut: int) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CorruptFileError, match=r"a\.tar: not an uncompressed \.tar"):
        list_tar(path)


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)})
    data = bytearray(path.read_bytes())
    second = data.index(b"2.png")
    data[second] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=f"no end of archive at byte {second}"):
        list_tar(path)


def test_a_negative_size_is_an_error(tmp_path: Path) -> None:
    """Base-256 sizes are signed; a negative one makes older versions of tarfile read the archive forever."""
    path = tmp_path / "a.tar"
    header = bytearray(tarfile.TarInfo("1.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(CorruptFileError, match=r"a\.tar"):
        list_tar(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(__file__, "x.png")
    with pytest.raises(CorruptFileError, match="decompress"):
        list_tar(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_damaged_archive_lists_or_fails_cleanly(tmp_path: Path, data: st.DataObject) -> None:
    path = write_tar(tmp_path / "a.tar", {"x" * 150 + "/1.png": png(1), "a/2.png": png(2)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 4096))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        images = list(list_tar(path).images.values())
    except CorruptFileError as error:
        assert "a.tar" in str(error)
        return
    for image in images:
        assert isinstance(image, EncodedImage)
        assert image.size is not None and 0 <= image.offset <= image.offset + image.size <= len(content)
