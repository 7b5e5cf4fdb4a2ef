"""Every source of randomness of a run has a seed of its own."""

from __future__ import annotations

import numpy as np

from rldarts_tf.training.seeds import derived_seed, make_generator

PURPOSES = ("environments", "evaluation environments", "actions", "evaluation actions", "learner")
SEEDS = (*range(100), 2**31 - 2, 2**31 - 1)


def test_seeds_differ_between_purposes_and_between_runs_and_fit_every_simulator():
    seeds = [derived_seed(seed, purpose) for seed in SEEDS for purpose in PURPOSES]
    assert len(set(seeds)) == len(seeds)
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
    assert min(seeds) < 2**28 and max(seeds) > 2**31 - 2**28  # they are spread
    assert not set(seeds) & set(SEEDS)


def test_the_same_run_has_the_same_seeds_again():
    # A number, for they must not change between versions of Python or numpy either.
    assert derived_seed(1, "actions") == derived_seed(1, "actions") == 1382694371


def words(generator, columns):
    # The second word of a stateless seed is 0 in all of them.
    return set(np.ravel([generator.make_seeds(columns).numpy()[0] for _ in range(400)]).tolist())


def test_streams_of_different_purposes_have_nothing_in_common():
    streams = [words(make_generator(0, purpose), 4) for purpose in PURPOSES]
    streams.append(words(make_generator(1, "actions"), 2))
    # As far as a run may get, too: no stream is another one from a later place on.
    for purpose in PURPOSES:
        assert make_generator(0, purpose).state.numpy()[:2].tolist() == [0, 0]
    assert len({int(make_generator(0, purpose).key) for purpose in PURPOSES}) == len(PURPOSES)
    assert len(set().union(*streams)) == sum(map(len, streams)) == 5 * 1600 + 800
