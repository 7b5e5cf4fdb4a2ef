"""Packaging of `rldarts_tf`: what it needs, and which versions work together.

The ranges below say what can work; `requirements.lock` says what is tested. Plain pip searches for
a fitting set of the extras for a very long time: install from the lock file first (see Makefile).
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "rldarts_tf" / "_version.py").read_text("utf-8"), re.M
).group(1)

# The frameworks below were built against TensorFlow 2.15; the core alone runs from 2.8 on.
TENSORFLOW_FOR_AGENTS = "tensorflow~=2.15.0"
# 0.14 is the release whose compiled part loads beside TensorFlow 2.15.
REVERB = "dm-reverb~=0.14.0"
# The last release line that runs on Keras 2.15.
PROBABILITY = "tensorflow-probability~=0.23.0"
LAUNCHERS = ["absl-py>=1.0", "dm-env>=1.5", "gin-config>=0.5,<0.6"]
PPO = [
    "tf-agents~=0.19.0",  # the last release; it wants TensorFlow 2.15
    TENSORFLOW_FOR_AGENTS,
    PROBABILITY,
    *LAUNCHERS,
]

EXTRAS = {
    "tf-agents": [*PPO, REVERB],
    "acme": [
        # 0.2.3 and 0.2.4 need a part of jax that is gone; from 0.3 on, a launchpad that loads only
        # beside TensorFlow 2.8.
        "dm-acme==0.2.2",
        TENSORFLOW_FOR_AGENTS,
        PROBABILITY,
        REVERB,
        "dm-sonnet~=2.0.2",
        "trfl~=1.2",
        # Acme's adders import jax. 0.4.34 is the last one that accepts the ml-dtypes of
        # TensorFlow 2.15; 0.4.30 is the last one for Python 3.9.
        "jax>=0.4.30,<=0.4.34",
        "jaxlib>=0.4.30,<=0.4.34",
        *LAUNCHERS,
    ],
    "procgen": [
        # OpenAI's wheels end at Python 3.10; the mirror has the same games for 3.11.
        "procgen==0.10.7; python_version < '3.11'",
        "procgen-mirror==0.10.7; python_version >= '3.11'",
        "gym<0.24",  # the newest one that both TF-Agents 0.19 and Procgen accept
    ],
    "dm-control": [
        "dm-control>=1.0.30",
        "mujoco<4",  # 4.0 dropped a field that dm-control 1.0 reads (flex_vertedge)
        "mujoco<3.4; python_version < '3.10'",  # later ones have no wheel for 3.9
    ],
    "gymnasium": [
        "gymnasium>=1.1,<2",  # the first release with autoreset modes
        # Gymnasium's ResizeObservation. Later ones are compiled against numpy 2.
        "opencv-python-headless<4.12",
    ],
    "atari": ["ale-py>=0.11.2"],  # its vector environment says when it begins the next episode
    "video": [
        "pillow>=10.1",  # the first release whose own font has sizes
        "imageio-ffmpeg>=0.3",  # what Procgen's gym3 accepts; it brings ffmpeg
        "setuptools<82",  # imageio-ffmpeg 0.3 imports pkg_resources, which 82 removed
    ],
    "report": [
        "gin-config>=0.5,<0.6",  # a run's config.gin is read by its parser
        "jinja2>=3",
        "matplotlib>=3.7",
        "rich>=13",
        "tensorboard~=2.15.0",
        "setuptools<82",  # TensorBoard 2.15 imports pkg_resources, which 82 removed
    ],
}
# The report of a study; 1.9 is the first that names the fields of its results.
EXTRAS["studies"] = ["scipy>=1.9", *EXTRAS["report"]]
# A launcher of a user who has nothing else.
EXTRAS["gymnasium"] += [*PPO, *EXTRAS["report"], *EXTRAS["video"]]
EXTRAS["all"] = sorted({requirement for part in EXTRAS.values() for requirement in part})
EXTRAS["ray"] = ["ray>=2.10,<3"]  # studies on several machines; by its own name only, being large
# GPL-3, so by its own name only. Earlier ones register nothing with Gymnasium.
EXTRAS["minatar"] = ["minatar>=1.0.15"]
EXTRAS["dev"] = [
    # For `make fuzz`. Elsewhere it has no wheels.
    "atheris>=2.3; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "hypothesis>=6.100",
    "ipykernel>=6",  # for the notebook among the examples
    "ipython<8.19",  # later ones need a typing-extensions that TF-Agents refuses
    "mypy>=1.10",
    "nbclient>=0.10",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.5",
    "ruff>=0.6",
]
# 2.15.0 asks for TensorRT packages that cannot be installed. Linux only.
EXTRAS["gpu"] = ["tensorflow[and-cuda]>=2.15.1,<2.16"]

setup(
    name="rldarts_tf",
    version=VERSION,
    description="Differentiable architecture search for RL encoders, for TF-Agents and Acme",
    license="Apache-2.0",
    # gin/ and launchers/ stand beside the package in a checkout and are installed inside it, where
    # rldarts_tf/shipped.py looks for them.
    packages=[
        *find_packages(include=["rldarts_tf", "rldarts_tf.*"]),
        "rldarts_tf.gin",
        "rldarts_tf.launchers",
    ],
    package_dir={"rldarts_tf.gin": "gin", "rldarts_tf.launchers": "launchers"},
    package_data={
        "rldarts_tf": ["py.typed"],
        "rldarts_tf.gin": ["**/*.gin"],
        "rldarts_tf.pictures.report": ["*.html.j2"],
        "rldarts_tf.studies.report": ["*.html.j2"],
    },
    zip_safe=False,
    python_requires=">=3.9,<3.12",
    install_requires=[
        "tensorflow>=2.8,<2.16",  # from 2.16 on tf.keras is Keras 3
        "numpy<2",  # TensorFlow before 2.18 is compiled against numpy 1
        "typing-extensions>=4.4",  # TensorFlow needs it too; from 4.4 on it has `override`
    ],
    extras_require=EXTRAS,
)
