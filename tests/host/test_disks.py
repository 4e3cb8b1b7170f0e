from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from code_interpreter.guest.disk import copy_sparse, mount_image
from code_interpreter.host.disks import MOST_IMAGES, SMALLEST, DiskImages
from code_interpreter.host.runtimes.base import PolicyNotEnforceable

MIB = 1024 * 1024


@pytest.fixture
def disks(tmp_path: Path) -> DiskImages:
    images = DiskImages(tmp_path)
    problem = images.problem()
    if problem is not None:
        pytest.skip(f"disk space cannot be limited here: {problem}")
    return images


def test_only_the_sizes_asked_for_last_are_kept(disks: DiskImages, tmp_path: Path) -> None:
    first = disks.image(64 * MIB)
    assert first is not None
    assert first.endswith(f"{64 * MIB}.ext4")
    for extra in range(MOST_IMAGES):
        disks.image((65 + extra) * MIB)
    assert disks.image(None) is None
    kept = {path.name for path in (tmp_path / "disks").iterdir()}
    assert len(kept) == MOST_IMAGES
    assert f"{64 * MIB}.ext4" not in kept
    assert f"{(65 + MOST_IMAGES - 1) * MIB}.ext4" in kept


def test_a_disk_too_small_is_refused(disks: DiskImages) -> None:
    with pytest.raises(PolicyNotEnforceable, match=str(SMALLEST)):
        disks.image(SMALLEST - 1)


def test_many_may_ask_for_the_first_image_at_once(disks: DiskImages, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(disks.image, [SMALLEST] * 8))
    assert len(paths) == 1
    (image,) = (tmp_path / "disks").iterdir()
    assert SMALLEST < image.stat().st_size < 1.2 * SMALLEST, "what can be written is the size"


def test_what_is_written_to_a_disk_goes_past_the_hosts_page_cache(
    disks: DiskImages, tmp_path: Path
) -> None:
    assert disks.image(SMALLEST) is not None
    (empty,) = (tmp_path / "disks").iterdir()
    image, mounted = tmp_path / "disk.img", tmp_path / "mounted"
    copy_sparse(str(empty), str(image))
    mount_image(str(image), str(mounted))
    try:
        (mounted / "file").write_bytes(b"x" * MIB)
        lines = Path("/proc/mounts").read_text().splitlines()
        (device,) = [line.split()[0] for line in lines if f" {mounted} " in line]
        about = Path("/sys/block", Path(device).name, "loop")
        assert (about / "backing_file").read_text().strip() == str(image)
        assert (about / "dio").read_text() == "1\n"
    finally:
        subprocess.run(["umount", mounted], check=True, timeout=30)
    assert not about.exists(), "the loop device is gone with the mount"
