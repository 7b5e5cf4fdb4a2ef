"""The core needs TensorFlow and what comes with it; its files import only files above them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rldarts_tf"
FRAMEWORKS = (
    "tf_agents",
    "acme",
    "reverb",
    "sonnet",
    "trfl",
    "procgen",
    "gym",
    "dm_control",
    "gin",
    "jax",
    "matplotlib",
    "rich",
    "ray",
    "tensorflow_probability",
)
GROUND = ("extras", "errors", "checks", "settings_fields", "files", "lazy", "closing")
# From top to bottom: a file imports only files that stand before it.
LAYERS = (
    "extras",
    "errors",
    "checks",
    "settings_fields",
    "files",
    "lazy",
    "space",
    "layer_space",
    "search_space",
    "options",
    "genotype",
    "discretization",
    "search.cost_settings",
    "search.relaxation_registry",
    "search.settings",
    "search.relaxations",
    "search.progressive",
    "alpha",
    "devices",
    "kernels.plan",
    "kernels.precision",
    "kernels.normalization",
    "kernels.mixing",
    "kernels.unit",
    "kernels.dilation",
    "kernels.terms",
    "kernels.banks",
    "kernels.evaluate",
    "kernels.counting",
    "inverted_residual",
    "ops",
    "caps",
    "cells",
    "search.costs",
    "encoders",
    "search.optimizers",
    "search.settling",
    "search.contribution",
    "baselines",
    "resnet",
    "factory",
)


# By package what it may import, besides itself and the ground. The files of the core: see `LAYERS`.
ARCHITECTURE = {"space", "layer_space", "search_space", "genotype", "discretization"}
CORE = {
    *ARCHITECTURE,
    "kernels",
    "devices",
    "options",
    "alpha",
    "inverted_residual",
    "ops",
    "caps",
    "cells",
    "encoders",
    "baselines",
    "resnet",
    "factory",
    "cost",
    "search",
}
DROP_INS = {"encoding_network", "torso", "acme_compat"}
PACKAGES = {
    "kernels": {"search_space", "genotype"},
    "encoders": CORE - {"encoders", "baselines", "resnet", "factory", "cost", "inverted_residual"},
    "search": {*ARCHITECTURE, "alpha", "devices", "kernels", "ops", "cells", "encoders"},
    "runs": {"space", "search_space", "genotype"},
    "pictures": {*ARCHITECTURE, "envs", "runs"},
    "envs": set(),
    "teaching": {"runs"},
    "training": {*CORE, "envs", "runs", "pictures", "teaching"},
    "agents": {*CORE, *DROP_INS, "envs", "runs", "teaching", "training"},
}
PACKAGES["export"] = {*PACKAGES["agents"], "agents"}
PACKAGES["launch"] = {*PACKAGES["export"], "export", "pictures"}
# What a command line needs before anything else.
PACKAGES["launch"] |= {"shipped", "tensorflow_environment", "user_modules"}
PACKAGES["perturbation"] = {*PACKAGES["export"], "export"}
PACKAGES["studies"] = {*PACKAGES["launch"], "launch"}
PACKAGES["commands"] = {*PACKAGES["studies"], "studies", "export", "perturbation"}


def imports_of(path: Path) -> list[str]:
    """Full dotted names of what a file imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def core_modules(path: Path) -> set[str]:
    """The modules and packages directly below `rldarts_tf` that a file imports."""
    modules = set()
    for name in imports_of(path):
        head, *rest = name.split(".")
        if head == "rldarts_tf":
            assert rest, f"{path.name}: imports the whole package"
            modules.add(rest[0])
    return modules


def files_of(name: str) -> list[Path]:
    """The file of a module, or those of a package."""
    path = PACKAGE / name.replace(".", "/")
    return sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def layers_of(name: str) -> set[str]:
    """What a layer imports of this package; of packages of the core the modules in them."""
    names = [imported.split(".") for path in files_of(name) for imported in imports_of(path)]
    parts = [rest for head, *rest in names if head == "rldarts_tf"]
    layers = {".".join(rest[: 2 if rest[0] in ("kernels", "search") else 1]) for rest in parts}
    return layers - {name}


def output_of(program: str) -> str:
    """Returns what a program prints in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout


def test_importing_the_package_loads_no_framework():
    # TensorFlow by itself loads jax, where that is installed.
    program = (
        "import json, sys, numpy, tensorflow; before = set(sys.modules); import rldarts_tf; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    output = output_of(program)
    loaded = {name.split(".")[0] for name in json.loads(output.splitlines()[-1])}
    assert "rldarts_tf" in loaded
    assert loaded.isdisjoint(FRAMEWORKS)


def test_search_spaces_and_plans_of_cells_need_no_tensorflow_of_their_own():
    for name in (
        *GROUND,
        "space",
        "layer_space",
        "search_space",
        "options",
        "genotype",
        "kernels/plan",
    ):
        assert not any(
            imported.split(".")[0] in ("tensorflow", "numpy")
            for imported in imports_of(PACKAGE / f"{name}.py")
        )


def test_the_layout_of_a_run_needs_nothing_but_the_standard_library():
    above = {"__future__", "collections", "dataclasses", "os", "pathlib", "re"}
    for imported in imports_of(PACKAGE / "runs" / "paths.py"):
        assert imported.split(".")[0] in above or imported.startswith("rldarts_tf.errors.")


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_packages_below_it(package):
    wrong = {
        (str(path.relative_to(PACKAGE)), name)
        for path in (PACKAGE / package).rglob("*.py")
        for name in core_modules(path) - {package, "_version", *GROUND, *PACKAGES[package]}
    }
    assert wrong == set()


def test_every_package_has_its_place():
    found = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert found == set(PACKAGES)


@pytest.mark.parametrize("name", [*LAYERS, "cost"])
def test_file_of_the_core_imports_only_files_above_it(name):
    above = LAYERS[: LAYERS.index(name)] if name in LAYERS else LAYERS
    assert layers_of(name) <= set(above)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="no list of the standard library")
@pytest.mark.parametrize("name", [*LAYERS, "cost", "__init__"])
def test_file_of_the_core_imports_only_tensorflow_and_what_comes_with_it(name):
    third_party = {"numpy", "tensorflow", "typing_extensions"}
    allowed = {*sys.stdlib_module_names, *third_party, "__future__", "rldarts_tf"}
    for path in files_of(name):
        assert {imported.split(".")[0] for imported in imports_of(path)} <= allowed


def test_type_checkers_see_the_names_that_there_are():
    import rldarts_tf

    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    seen = [
        (alias.asname, node.module.split(".")[-1])
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    ]
    assert sorted(seen) == sorted(rldarts_tf._MODULES.items())


def test_package_shows_every_public_name_once():
    import rldarts_tf

    assert sorted(set(rldarts_tf.__all__)) == sorted(rldarts_tf.__all__)
    for name in rldarts_tf.__all__:
        assert getattr(rldarts_tf, name) is not None


def test_a_name_is_imported_when_it_is_used():
    program = (
        "import sys, rldarts_tf, rldarts_tf.envs.episodes; early = 'tensorflow' in sys.modules; "
        "import rldarts_tf.encoders; print(early, callable(rldarts_tf.discretize))"
    )
    output = output_of(program)
    assert output.split() == ["False", "True"]


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("0", "0")])
def test_commands_and_launchers_switch_on_onednn_unless_the_environment_says_otherwise(
    given, found, monkeypatch
):
    name = "TF_ENABLE_ONEDNN_OPTS"
    monkeypatch.delenv(name) if given is None else monkeypatch.setenv(name, given)
    for module in ("rldarts_tf.commands", "rldarts_tf.launch"):
        assert output_of(f"import os, {module}; print(os.environ[{name!r}])").split() == [found]


@pytest.mark.parametrize(
    ("package", "settings", "name"),
    [
        ("ppo", "PPOSettings", "PPOProgram"),
        ("rainbow", "RainbowSettings", "Rainbow"),
        ("sac", "SACSettings", "SAC"),
    ],
)
def test_settings_of_an_algorithm_load_no_framework_and_its_other_names_do(package, settings, name):
    pytest.importorskip("acme")
    pytest.importorskip("tf_agents")
    program = (
        f"import sys; from rldarts_tf.agents.{package} import {settings}; {settings}(); "
        "early = {'tensorflow', 'acme', 'tf_agents', 'sonnet', 'reverb'} & {*sys.modules}; "
        f"from rldarts_tf.agents import {package}; {package}.{name}; print(sorted(early), "
        f"'tensorflow' in sys.modules, all(getattr({package}, n) for n in {package}.__all__), "
        f"hasattr({package}, 'nonsense'))"
    )
    assert output_of(program).splitlines()[-1] == "[] True True False"


def test_ppo_on_gymnasium_and_what_shows_its_runs_need_no_other_simulator_and_no_acme():
    for module in ("gymnasium", "tf_agents", "jinja2", "matplotlib"):
        pytest.importorskip(module)
    missing = ("acme", "dm_control", "jax", "mujoco", "procgen", "reverb", "sonnet", "trfl")
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({missing})); "
        "experiment = runpy.run_path('launchers/ppo_gymnasium.py')['EXPERIMENT']; "
        "from rldarts_tf.commands import export, report, show, watch; "
        "from rldarts_tf.export import playing; from rldarts_tf.pictures.report import make_page; "
        "from rldarts_tf.agents.registry import algorithm_of; print(experiment.name, "
        "algorithm_of(experiment.program).settings.__name__); "
        "import contextlib; from rldarts_tf import commands; "
        "contextlib.redirect_stderr(sys.stdout).__enter__(); "
        "print(commands.main(['train', 'rainbow_gymnasium']))"
    )
    made, refused, code = output_of(program).splitlines()
    assert made == "ppo_gymnasium PPOSettings"
    assert "acme" in refused and refused.endswith("; run: pip install rldarts_tf[acme]")
    assert code == "2"


def test_package_has_no_other_names():
    import rldarts_tf

    assert set(rldarts_tf.__all__) <= set(dir(rldarts_tf))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = rldarts_tf.Nonsense
