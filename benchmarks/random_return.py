"""Returns of a uniformly random policy on a Procgen game: what learning is compared with.

python benchmarks/random_return.py --env_name=starpilot --episodes=512
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from rldarts_tf.envs.procgen import games
from rldarts_tf.envs.procgen.batch import ProcgenEnvironment
from rldarts_tf.training.evaluation import evaluate


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env_name", default="starpilot", choices=games.GAMES)
    parser.add_argument("--distribution_mode", default="easy", choices=games.DISTRIBUTION_MODES)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    environment = ProcgenEnvironment(
        args.env_name, 64, seed=args.seed, distribution_mode=args.distribution_mode
    )
    rng = np.random.default_rng(args.seed)

    def act(observation):
        return rng.integers(games.NUM_ACTIONS, size=len(observation))

    result = evaluate(environment, act, args.episodes)
    mean = float(result.returns.mean())
    print(
        json.dumps(
            {
                **vars(args),
                "episodes": len(result.returns),
                "return_mean": mean,
                "return_std": float(result.returns.std()),
                "standard_error": float(result.returns.std() / len(result.returns) ** 0.5),
                "return_normalized": games.normalized_return(
                    mean, args.env_name, args.distribution_mode
                ),
                "length_mean": float(result.lengths.mean()),
            }
        )
    )


if __name__ == "__main__":
    main()
