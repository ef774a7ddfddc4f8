"""What pyproject.toml cannot say: a wheel holds the track, its weights and the workflow as well.

They are at the top of the repository, and nowhere else. `pip install -e .` copies nothing: the
checkout itself serves (puriflow/shipped.py).
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("config", "profiles", "resources", "workflow")  # and MANIFEST.in, for an sdist


class BuildPackage(build_py):
    """Builds the package, with what PuriFlow ships in `puriflow/_shipped`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "puriflow", "_shipped")
            shutil.rmtree(target, ignore_errors=True)  # of a build before
            for folder in SHIPPED:
                shutil.copytree(folder, target / folder)


setup(cmdclass={"build_py": BuildPackage})
