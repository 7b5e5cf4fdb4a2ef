"""A wheel in an environment of its own, outside the repository: train, report and export."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from processes import ROOT, assert_refused, finish

pytest.importorskip("procgen")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TINY = (
    "--gin_file=classic.gin",
    "--gin_file=spaces/micro.gin",
    "--env_name=bossfight",
    "--num_env_steps=32",
    "--stage=search",
    *(
        f"--gin_bindings={binding}"
        for binding in (
            "PPOSettings.num_envs = 2",
            "PPOSettings.steps_per_update = 16",
            "search/PPOSettings.minibatch_size = 32",
            *(f"{stage}PPOSettings.minibatch_size = 32" for stage in ("", "evaluate/")),
            "search/EncoderSettings.depths = [2]",
            "EncoderSettings.features = 8",
            "TrainingSettings.evaluation_interval = 0",
            "TrainingSettings.final_evaluation_episodes = 1",
            "TrainingSettings.pictures = 0",
        )
    ),
)


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An interpreter that has the wheel, and of this environment everything but the project."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("rldarts_tf", "gin", "launchers"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    wheels = folder / "wheels"
    build = [*pip, "wheel", *offline, "--no-build-isolation", f"--wheel-dir={wheels}", str(source)]
    subprocess.run(build, check=True)
    venv.create(folder / "env")
    python = folder / "env" / "bin" / "python"
    packages = sysconfig.get_path("purelib", vars={"base": str(folder / "env")})
    (wheel,) = wheels.glob("*.whl")
    # Beside the wheel's, only paths: an editable install of the project is not followed from here.
    subprocess.run([*pip, "install", *offline, f"--target={packages}", str(wheel)], check=True)
    (Path(packages) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return python


# Files are UTF-8 and terminals take what they can, whatever the locale says.
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(python: Path, folder: Path, *arguments: str):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return finish(
        subprocess.Popen(
            [str(python), *arguments],
            cwd=folder,
            env={**environment, **PLAIN, "TERM": "dumb"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )


@pytest.fixture(scope="module")
def trained(python, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    ended = run(python, folder, "-m", "rldarts_tf", "train", "ppo_procgen", *TINY)
    assert ended.code == 0, ended.err
    assert "search: finished" in ended.out
    return folder


def test_the_package_is_the_installed_one(python, tmp_path):
    ended = run(python, tmp_path, "-c", "import rldarts_tf; print(rldarts_tf.__file__)")
    assert Path(ended.out.strip()).is_relative_to(python.parents[1])


def test_the_gin_files_and_launchers_are_installed(python, tmp_path):
    program = (
        "from rldarts_tf import shipped; "
        "print(shipped.shipped_folder('gin'), *shipped.launcher_names())"
    )
    folder, *names = run(python, tmp_path, "-c", program).out.split()
    files = {path.stem for path in (ROOT / "launchers").glob("*.py")}
    assert names == sorted(files - {"study"}), "all that state one experiment"
    assert Path(folder).is_relative_to(python.parents[1])
    installed, own = (
        {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*.gin")}
        for top in (Path(folder), ROOT / "gin")
    )
    assert installed == own


def test_a_run_is_trained_reported_and_exported(python, trained):
    root = "runs/ppo_procgen-bossfight-0"
    assert (trained / root / "search" / "metrics.csv").exists()
    reported = run(python, trained, "-m", "rldarts_tf", "report", root)
    assert reported.code == 0, reported.err
    assert (trained / reported.out.strip()).stat().st_size > 10_000
    flags = ["--stage=search", "--output=policy"]
    exported = run(python, trained, "-m", "rldarts_tf", "export", root, *flags)
    assert exported.code == 0, exported.err
    assert (trained / "policy" / "saved_model.pb").exists()


def test_bad_input_is_refused_as_by_a_launcher(python, tmp_path):
    train = ("-m", "rldarts_tf", "train")
    assert_refused(run(python, tmp_path, *train, "a2c_procgen"), ["a2c_procgen", "ppo_procgen"])
    refused = run(python, tmp_path, *train, "ppo_procgen", "--gin_file=clasic.gin")
    assert_refused(refused, ["gin_file", "clasic.gin", str(python.parents[1])])


# Of each extra, the modules of `extras.MODULES` that it brings.
BROUGHT = {
    "": set(),
    "report": {"PIL", "absl", "gin", "jinja2", "matplotlib", "rich", "tensorboard"},
    "tf-agents": {"absl", "dm_env", "gin", "gym", "reverb", "tensorflow_probability", "tf_agents"},
}

COMMANDS = (
    ["show", "RUN/cell.json"],
    ["draw", "RUN/cell.json", "--output=drawings"],
    ["size", "classic"],
    ["random", "micro", "--output=cells"],
    ["discretize", "RUN"],
    ["compare", "RUN", "RUN"],
    ["plot", "RUN", "--column=steps_per_second", "--output=speed.png"],
    ["report", "RUN", "--output=report.html"],
    ["export", "RUN", "--stage=search", "--output=policy", "--no_check"],
    ["export", "RUN", "--stage=search", "--output=policy2"],
    ["watch", "RUN", "--stage=search"],
    ["study", "--gin_file=studies/search_pays.gin", "--gin_file=nowhere.gin", "--root_dir=study"],
    ["train", "ppo_procgen", "--gin_file=nowhere.gin"],
)

PROGRAM = """
import contextlib, io, json, sys
from rldarts_tf import extras

brought, commands = json.loads(sys.argv[1])

class Missing:
    def find_spec(self, name, path=None, target=None):
        module = name.partition(".")[0]
        if module in extras.MODULES and module not in brought:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from rldarts_tf.commands import main

for argv in commands:
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as error:
            code = error.code
    print(json.dumps([argv[0], code, err.getvalue()]))
"""


@pytest.mark.parametrize("extra", BROUGHT)
def test_every_command_works_or_names_the_extra_that_it_needs(extra, python, trained, tmp_path):
    run_dir = trained / "runs" / "ppo_procgen-bossfight-0"
    shutil.copy(ROOT / "tests" / "golden" / "ppo" / "genotype.json", run_dir / "cell.json")
    # TensorFlow itself needs some of them, which is no business of the extras.
    brought = sorted(BROUGHT[extra] | {"absl", "tensorboard"})
    commands = [[text.replace("RUN", str(run_dir)) for text in argv] for argv in COMMANDS]
    ended = run(python, tmp_path, "-c", PROGRAM, json.dumps([brought, commands]))
    assert ended.code == 0, ended.err
    results = [json.loads(line) for line in ended.out.splitlines()]
    assert len(results) == len(COMMANDS)
    done = {"": ["show", "size", "random"], "report": ["discretize", "plot", "report"]}
    for name, code, err in results:
        named = "nowhere.gin" in err or "pip install" in err
        assert ((code, err.count("\n")) == (2, 1) and named) or code == 0, (name, err)
    worked = {name for name, code, _ in results if code == 0}
    assert worked >= {*done[""], *done.get(extra, [])}, results
