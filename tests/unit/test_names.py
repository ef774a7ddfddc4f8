"""The names of classes."""

import subprocess
import sys

from puriflow.datasets.names import class_names


def test_imagenet_s_names_need_nothing_imported_before():
    code = "from puriflow.datasets.names import imagenet_names as names; print(names()[243])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("bull mastiff\n", 0), ended.stderr


def test_classes_are_named_where_their_names_are_known():
    assert class_names(10)[6] == "frog"
    assert len(class_names(1000)) == 1000
    assert class_names(3) == ["0", "1", "2"]
