"""Everything that `pyproject.toml` calls dynamic is read from `settings.ini`: one source."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(HERE / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]
extras = {name: settings[f"{name}_requirements"].split()
          for name in ("study", "dev", "export", "hub", "lite0", "ray", "tensorboard")}
extras["dev"] += extras["study"] + extras["tensorboard"]


class WithExperiments(build_py):
    """A wheel carries the experiment notebooks among its resources; a checkout has them in nbs/."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "patchlesion_nb", "resources", "experiments")
            self.mkpath(str(target))
            for notebook in sorted((HERE / "nbs" / "experiments").glob("*.ipynb")):
                self.copy_file(str(notebook), str(target))


setup(
    cmdclass={"build_py": WithExperiments},
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=settings["keywords"].split(),
    license="Apache-2.0",
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
    ],
    packages=find_packages(include=["patchlesion_nb", "patchlesion_nb.*"]),
    package_data={"patchlesion_nb": ["resources/**/*"]},
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": ["patchlesion_nb=patchlesion_nb._modidx:d"],
    },
    zip_safe=False,
)
