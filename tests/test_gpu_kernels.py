"""Acting and updates on a GPU, by the registry of kernels: nothing goes back to the CPU unasked."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")
pytest.importorskip("reverb")

import tensorflow as tf
from gpu_kernels import without_gpu_kernel
from learner_paths import BATCH, PATHS, images

from rldarts_tf import Supernet
from rldarts_tf.agents.off_policy.program import traced
from rldarts_tf.agents.ppo.acting import Actor
from rldarts_tf.agents.ppo.learner import on_host
from rldarts_tf.agents.rainbow.exploration import EpsilonGreedy
from rldarts_tf.search_space import CLASSIC

pytestmark = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(), reason="this build of TensorFlow knows no GPU kernels"
)

# Every op of the two spaces that the paper searches; edges from one source and from two.
SPACE = dataclasses.replace(CLASSIC, name="classic_2", num_nodes=2)


def make(name, precision):
    augmented = {} if name == "sac" else {"augmentation": "shift"}  # SAC's settings come below
    return PATHS[name](Supernet(SPACE, [3], features=8, dtype=precision), **augmented)


def graphs(name, path):
    """What runs in training, traced: the update and acting."""
    generator = tf.random.Generator.from_seed(0, alg="philox")
    frames = images(0, 4)
    if name.startswith("ppo"):
        yield path.learner.update.get_concrete_function(on_host(path.experience))
        seed = tf.zeros([2], tf.int32)
        yield Actor(path.agent, generator)._act.get_concrete_function(frames, seed)
        return
    sample = next(path.learner._samples)
    if name == "rainbow":
        yield path.learner._step.get_concrete_function(sample, {})
        yield path.learner._update_target.get_concrete_function()
        policy = EpsilonGreedy(path.learner._network, 0.1, generator)
        yield traced(policy.act).get_concrete_function(frames)
        return
    path.learner._settings = dataclasses.replace(path.learner._settings, random_shift=2)
    yield path.learner._step.get_concrete_function(sample.data, {})
    for options in ({"uniform": tf.Variable(True)}, {"greedy": True}):
        policy = path.networks.policy(generator, **options)
        yield traced(policy.act).get_concrete_function(frames)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", ["ppo", "rainbow", "sac"])
def test_every_op_has_a_gpu_kernel_or_is_placed_on_the_cpu(name, precision):
    found = [without_gpu_kernel(graph) for graph in graphs(name, make(name, precision))]
    assert found == [[]] * len(found) and len(found) >= 2


def test_an_op_without_a_gpu_kernel_is_found_unless_it_is_placed():
    def gather(x, device):
        with tf.device(device):
            return tf.gather(x, [1, 0])

    def audit(dtype, device=None):
        function = tf.function(lambda x: gather(x, device), autograph=False)
        return without_gpu_kernel(function.get_concrete_function(tf.zeros([2, 3], dtype)))

    (found,) = audit(tf.uint8)
    assert found.startswith("GatherV2(") and "Tparams=uint8" in found
    assert audit(tf.uint8, "/cpu:0") == audit(tf.float32) == []


def test_a_rollout_is_on_the_cpu_and_what_the_arrays_were():
    path = make("ppo", "float32")
    placed = on_host(path.experience)
    for tensor, array in zip(*map(tf.nest.flatten, (placed, path.experience))):
        assert tensor.device.endswith("CPU:0") and (tensor.numpy() == array).all()
    assert placed.observation.shape[0] * 4 == BATCH
