"""Recovery of the planted op: whether a search finds the one op that a label needs.

    python benchmarks/planted.py --task=distance,shortcut --seeds=10
    python benchmarks/planted.py --method=joint,unit_ops,drnas --seeds=10
    python benchmarks/planted.py --task=distance --learner=ppo,rainbow --seeds=5
    python benchmarks/planted.py --task=distance --alone --seeds=3

docs/planted.md has the tasks. The supernet is one cell of one edge, a mean over positions and two
small layers after it; what is recovered is the op that stands on the edge when the search is
discretized by α; beside it, for a supervised search, by contribution and by the loss without each
op. Chance is 1 / (ops but for none); intervals are exact (Clopper and Pearson), 95 %.

  supervised  cross entropy on fresh images, in this process' own loop, by any --method: the paper's
              (joint), or one of gin/searches
  ppo         one-step episodes with the launch path's program, as planted.gin has it
  rainbow     the same, as planted_rainbow.gin has it

--alone trains the discrete cell of each op instead: what separates the ops is shown, not assumed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import common  # first: it sets what TensorFlow reads when it loads

# isort: split
import gin
import numpy as np
import tensorflow as tf
from scipy import stats

from rldarts_tf import search as search_methods
from rldarts_tf.agents.adam import FusedAdam
from rldarts_tf.agents.registry import ALGORITHMS
from rldarts_tf.commands.inputs import positive
from rldarts_tf.encoders import DiscreteNetwork, Encoder, Supernet
from rldarts_tf.envs.planted.images import TASKS, Task
from rldarts_tf.envs.planted.settings import PlantedSettings
from rldarts_tf.envs.planted.suite import PlantedSuite
from rldarts_tf.genotype import Genotype
from rldarts_tf.launch import gin_files
from rldarts_tf.perturbation.masks import Mask, masked
from rldarts_tf.perturbation.selection import Weights
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.search import SearchSettings
from rldarts_tf.search_space import NONE, NORMAL, SearchSpace
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.seeds import derived_seed
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings

NETWORK: dict[str, Any] = {"depths": [8], "features": 16, "head": "pool"}
BATCH, LEARNING_RATE = 64, 3e-3
STEPS = {"distance": 150, "dilated": 200, "count": 300, "shortcut": 600}
"""Of a supervised search, by task."""
HELD_OUT = 1000
"""Fresh images that a supervised search ends with."""
RECORDS = 8
"""How often p is recorded in a search."""


def space_of(name: str) -> SearchSpace:
    """The search space of a task: one cell of one edge, nothing before it."""
    ops = sorted((TASKS[name].planted, *TASKS[name].decoys))
    return SearchSpace(f"planted_{name}", tuple(ops), num_nodes=1, top_k=1, stem="none")


def chance(name: str) -> float:
    """The share of searches that recover the op where each op but `none` is equally likely."""
    return 1 / (len(space_of(name).ops(NORMAL)) - 1)


# --- methods --------------------------------------------------------------------------------------


class Joint:
    """Joint optimization (equation 2): one Adam for α and θ, on one loss; Algorithm 4 at the end.

    A search method has these members; another one subclasses this, or replaces it.

    Args:
      supernet: the supernet, built.
      network: images -> logits [B, classes]: the supernet and a linear head.
    """

    settings = SearchSettings()
    """Of the supernet; `rldarts_tf.search.optimizer` does what they say."""
    inverse_temperature = 5.0
    """β of the supernet."""

    def __init__(self, supernet: Supernet, network: tf.keras.Model) -> None:
        self.supernet = supernet
        self._step = train_step(network)

    def step(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        """Learns from a batch of fresh images."""
        self._step(images, labels)

    def genotype(self) -> Genotype:
        """The cell that the search stands for now."""
        return self.supernet.discretize()


METHODS: dict[str, type[Joint]] = {"joint": Joint}
"""Methods by name, beside those of gin/searches."""
GIN_METHODS = (
    "own_optimizer",
    "unit_ops",
    "first_order",
    "fairdarts",
    "gdas",
    "gdas_two_ops",
    "drnas",
    "pc_darts",
    "darts_minus",
    "sdarts",
    "beta_darts",
    "sgas",
    "p_darts",
)
"""Files of gin/searches that are a method of their own here, where nothing is capped or costs and a
cell is read off α."""


def method_of(name: str, bindings: Sequence[str] = ()) -> type[Joint]:
    """A method by its name in `METHODS` or `GIN_METHODS`.

    Args:
      name: of the method.
      bindings: settings that differ from those of the gin file.
    """
    if name in METHODS and not bindings:
        return METHODS[name]
    files = [] if name in METHODS else [f"searches/{name}.gin"]
    algorithm = ALGORITHMS["ppo"]
    gin_files.load(["planted.gin", *files], bindings, algorithm=algorithm)
    members = {
        "settings": gin_files.search_settings(),
        "inverse_temperature": gin_files.resolve(
            EncoderSettings, algorithm.settings, PlantedSettings, TrainingSettings
        )["search"][0].inverse_temperature,
    }
    gin.clear_config()
    return type(name, (METHODS.get(name, Joint),), members)


def classifier(encoder: Encoder, task: Task) -> tf.keras.Model:
    """Images -> logits [B, classes]; built."""
    network = tf.keras.Sequential([encoder, tf.keras.layers.Dense(task.num_classes)])
    network(task.sample(np.random.default_rng(0), 1)[0])
    return network


def train_step(network: tf.keras.Model) -> Callable[[tf.Tensor, tf.Tensor], Any]:
    """A traced function (images, labels): one Adam step on the cross entropy, of all weights."""
    weights = network.trainable_variables
    optimizer = search_methods.optimizer(_adam(weights), network)

    found = search_methods.supernets(network)

    @tf.function(autograph=False)
    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        for supernet in found:
            supernet.alpha.draw()
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network(images))
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))

    return step


def _adam(weights: Sequence[tf.Variable]) -> FusedAdam:
    optimizer = FusedAdam(LEARNING_RATE)
    optimizer.build(weights)
    return optimizer


def held_out(task: Task, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels that no search has seen."""
    return task.sample(
        np.random.default_rng(derived_seed(seed, "evaluation environments")), HELD_OUT
    )


def accuracy(network: tf.keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose class is the greatest logit."""
    return float(np.mean(np.argmax(network(images), axis=-1) == labels))


def missed_most(
    supernet: Supernet, network: tf.keras.Model, images: np.ndarray, labels: np.ndarray
) -> str:
    """The op without which the loss is greatest (DARTS-PT), in a supernet of one edge."""
    ops = supernet.space.ops(NORMAL)
    p = supernet.alpha.lasting_op_weights()[NORMAL].numpy()
    mask = Mask(supernet.space)
    losses = {}
    with masked({"network": network}, mask):
        for op in ops:
            without = np.where(np.array(ops) == op, 0, p)
            mask.assign({NORMAL: Weights(np.zeros_like(p), without)})
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network(images))
            losses[op] = float(tf.reduce_mean(each))
    return max((op for op in ops if op != NONE), key=losses.__getitem__)


def train(
    step: Callable[[tf.Tensor, tf.Tensor], Any], task: Task, seed: int, steps: int
) -> Iterator[int]:
    """Trains on fresh images, step by step; yields the number of steps so far."""
    rng = np.random.default_rng(derived_seed(seed, "environments"))
    for number in range(1, steps + 1):
        step(*map(tf.constant, task.sample(rng, BATCH)))
        yield number


def alone(name: str, op: str, seed: int, steps: int) -> float:
    """The accuracy of the discrete cell with one op, trained from scratch."""
    tf.keras.utils.set_random_seed(seed)
    task, space = TASKS[name], space_of(name)
    genotype = Genotype(space.name, {NORMAL: (((0, op),),)}, top_k=1, space=space)
    network = classifier(DiscreteNetwork(genotype, **NETWORK), task)
    collections.deque(train(train_step(network), task, seed, steps), maxlen=0)
    return accuracy(network, *held_out(task, seed))


# --- searches -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Search:
    """A search that has ended.

    Attributes:
      op: on the edge of the discretized cell.
      recovered: whether it is the planted one.
      by_contribution: the op that would be on the edge by `search.contributions`; of a supervised
        search, as the next one.
      by_loss: the op that would be there by `missed_most`.
      accuracy: of the supernet; for an agent the mean return of its evaluation.
      seconds: of this process' time on the cores.
      steps: when `op_weights` were recorded.
      op_weights: p over time, [T, |O|], in the order of the space.
    """

    op: str
    recovered: bool
    by_contribution: str | None
    by_loss: str | None
    accuracy: float
    seconds: float
    steps: list[int]
    op_weights: list[list[float]]


def search(name: str, method_class: type[Joint], seed: int, steps: int) -> Search:
    """Searches with supervision; see `METHODS`."""
    begun = time.process_time()
    tf.keras.utils.set_random_seed(seed)
    task = TASKS[name]
    supernet = Supernet(
        space_of(name),
        **NETWORK,
        search=method_class.settings,
        inverse_temperature=method_class.inverse_temperature,
    )
    network = classifier(supernet, task)
    method = method_class(supernet, network)
    recorded = {}
    for number in train(method.step, task, seed, steps):
        supernet.alpha.set_progress(number / steps)
        if number % (steps // RECORDS) == 0:
            recorded[number] = supernet.alpha.lasting_op_weights()[NORMAL][0].numpy().tolist()
    seconds = time.process_time() - begun
    images, labels = held_out(task, seed)
    strengths = search_methods.contributions(supernet, tf.constant(images))[NORMAL][0].numpy()
    return _ended(
        name,
        method.genotype(),
        accuracy(network, images, labels),
        seconds,
        recorded,
        by_contribution=supernet.space.ops(NORMAL)[int(np.argmax(strengths))],
        by_loss=missed_most(supernet, network, images, labels),
    )


def search_by_agent(name: str, learner: str, seed: int, bindings: Sequence[str] = ()) -> Search:
    """Searches with an algorithm of the launch path, in episodes of one step.

    Args:
      name: of the task.
      learner: "ppo" or "rainbow".
      seed: of the run.
      bindings: settings that differ from those of the gin file.
    """
    begun = time.process_time()
    algorithm = ALGORITHMS[learner]
    gin_files.load(
        [f"planted{'' if learner == 'ppo' else '_' + learner}.gin"],
        [
            f"PlantedSettings.task = {name!r}",
            f"SearchSpace.name = {space_of(name).name!r}",
            f"search/EncoderSettings.search_space = {space_of(name).name!r}",
            f"SearchSpace.normal_ops = {list(space_of(name).normal_ops)}",
            f"TrainingSettings.seed = {seed}",
            *bindings,
        ],
        algorithm=algorithm,
    )
    encoder, numbers, environments, training = gin_files.resolve(
        EncoderSettings, algorithm.settings, PlantedSettings, TrainingSettings
    )["search"]
    suite = PlantedSuite(environments)
    supernet = encoder.make("supernet", search=gin_files.search_settings())
    gin.clear_config()
    with tempfile.TemporaryDirectory() as folder:
        stage = StagePaths(Path(folder))
        settings = StageSettings(suite.fit(numbers), suite, training)
        with contextlib.closing(
            Training(stage, "search", supernet, algorithm.program, settings)
        ) as session:
            reached = session.run()["eval_test_return_mean"]
        history = read_alphas(stage.alphas_path)
    weights = history.op_weights()[NORMAL][:, 0]
    every = max(1, len(history) // RECORDS)
    recorded = dict(zip(history.steps[::every].tolist(), weights[::every].tolist()))
    return _ended(name, supernet.discretize(), reached, time.process_time() - begun, recorded)


def _ended(
    name: str,
    genotype: Genotype,
    reached: float,
    seconds: float,
    recorded: Mapping[int, list[float]],
    by_contribution: str | None = None,
    by_loss: str | None = None,
) -> Search:
    [[[_, op]]] = genotype.cells[NORMAL]
    return Search(
        op,
        op == TASKS[name].planted,
        by_contribution,
        by_loss,
        reached,
        seconds,
        list(recorded),
        list(recorded.values()),
    )


# --- tables ---------------------------------------------------------------------------------------


def interval(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a binomial probability (Clopper and Pearson 1934)."""
    exact = stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return float(exact.low), float(exact.high)


def show_searches(results: Mapping[str, Sequence[Search]]) -> None:
    """One row per task and learner."""
    rows = []
    for label, found in results.items():
        name = label.split()[0]
        low, high = interval(sum(s.recovered for s in found), len(found))
        planted = TASKS[name].planted
        others = collections.Counter(s.op for s in found if not s.recovered)
        rows.append(
            (
                label,
                planted,
                f"{sum(s.recovered for s in found)} of {len(found)}",
                *(
                    f"{found_by.count(planted)} of {len(found)}" if any(found_by) else None
                    for found_by in (
                        [s.by_contribution for s in found],
                        [s.by_loss for s in found],
                    )
                ),
                chance(name),
                f"{low:.2f} to {high:.2f}",
                statistics.mean(s.accuracy for s in found),
                statistics.mean(s.seconds for s in found),
                ", ".join(f"{op} {count}" for op, count in others.items()) or None,
            )
        )
    columns = (
        "search",
        "planted",
        "recovered",
        "by contribution",
        "by loss",
        "chance",
        "95 %",
        "accuracy",
        "CPU s",
        "instead",
    )
    common.print_table("Recovery of the planted op", columns, rows)


def show_trajectory(label: str, found: Search) -> None:
    """p over time of one search."""
    ops = space_of(label.split()[0]).ops(NORMAL)
    common.print_table(
        f"p of {label}, first seed",
        ("step", *ops),
        [(str(step), *p) for step, p in zip(found.steps, found.op_weights)],
    )


def show_alone(results: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """One table per task, a row per op."""
    for name, by_op in results.items():
        common.print_table(
            f"Accuracy of the discrete cells of {name}, planted {TASKS[name].planted}",
            ("op", "mean", "least", "most"),
            [(op, statistics.mean(a), min(a), max(a)) for op, a in by_op.items()],
        )


# --- command line ---------------------------------------------------------------------------------


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--task",
        type=common.names_of(tuple(TASKS)),
        default=",".join(TASKS),
        help=f"some of {', '.join(TASKS)}, separated by commas (all)",
    )
    parser.add_argument(
        "--learner",
        type=common.names_of(("supervised", "ppo", "rainbow")),
        default="supervised",
        help="supervised, ppo, rainbow, or several (%(default)s)",
    )
    parser.add_argument(
        "--method",
        type=common.names_of((*METHODS, *GIN_METHODS)),
        default="joint",
        help=f"of the supervised search: joint, {', '.join(GIN_METHODS)}, or several (%(default)s)",
    )
    parser.add_count("--seeds", 10, "searches of each kind")
    parser.add_count("--first_seed", 1, "the first of the seeds")
    parser.add_argument("--steps", type=positive, help="of the supervised loop (those of the task)")
    parser.add_argument(
        "--gin_bindings", action="append", default=[], help="setting of the search, may be repeated"
    )
    parser.add_argument(
        "--alone", action="store_true", help="train the discrete cell of each op instead"
    )
    return parser


def _by_method(
    name: str, bindings: Sequence[str], steps: int | None
) -> Callable[[str, int], Search]:
    method = method_of(name, bindings)
    return lambda task, seed: search(task, method, seed, steps or STEPS[task])


def _by_agent(learner: str, bindings: Sequence[str]) -> Callable[[str, int], Search]:
    return lambda task, seed: search_by_agent(task, learner, seed, bindings)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args: argparse.Namespace = make_parser().parse_args(argv)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    if args.alone:
        accuracies: dict[str, dict[str, list[float]]] = {}
        for name in args.task:
            steps = args.steps or STEPS[name]
            for op in space_of(name).ops(NORMAL):
                if op != NONE:
                    common.progress(f"{name}, {op}")
                    of_op = [alone(name, op, seed, steps) for seed in seeds]
                    accuracies.setdefault(name, {})[op] = of_op
        show_alone(accuracies)
        common.write_results(args, accuracies)
        return
    found: dict[str, list[Search]] = {}
    kinds: list[tuple[str, Callable[[str, int], Search]]] = []
    for learner in args.learner:
        if learner == "supervised":
            for method in args.method:
                kinds.append((method, _by_method(method, args.gin_bindings, args.steps)))
        else:
            kinds.append((learner, _by_agent(learner, args.gin_bindings)))
    for name, (kind, found_by), seed in itertools.product(args.task, kinds, seeds):
        label = f"{name} {kind}"
        common.progress(f"{label}, seed {seed}")
        found.setdefault(label, []).append(found_by(name, seed))
    show_searches(found)
    for label, searches in found.items():
        show_trajectory(label, searches[0])
    common.write_results(
        args, {label: [dataclasses.asdict(s) for s in of] for label, of in found.items()}
    )


if __name__ == "__main__":
    common.run(main)
