"""Files are there whole or not at all."""

import pytest

from nnunet_ext.whole import aside, write_text


def test_a_file_is_written_and_nothing_else(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "µ\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "µ\n".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_what_is_interrupted_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    write_text(path, "old")

    def half():
        with aside(path) as partial:
            assert partial.suffix == ".nrrd"
            assert partial.parent == path.parent
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert [p.name for p in tmp_path.iterdir()] == ["a.seg.nrrd"]
    assert path.read_text() == "old"
