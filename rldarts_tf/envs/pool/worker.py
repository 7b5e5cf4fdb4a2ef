"""A process of a pool, from inside: simulates one environment for `PoolBatch`.

    python -m PROGRAM ARGUMENTS

PROGRAM is a module that calls `run`; ARGUMENTS is a JSON object, see `main`. The protocol:

1. The worker makes the environment and writes one line of JSON to stdout: what `greeting` returns.
2. For each byte that it reads from stdin, `RESET` or `STEP`, it does that to the environment and
   writes the byte `DONE` to stdout. Actions and results are in `SharedArrays`.
3. It ends when stdin ends: when its parent closes it, or has died. Bad arguments end it with exit
   code `BAD_INPUT` and one line on stderr, any other exception with 1 and a traceback.

Nothing else goes to stdout: what libraries print there appears on stderr. SIGINT is ignored: Ctrl-C
reaches all processes of a terminal, and the parent decides what it means. TensorFlow is not loaded.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import dm_env

from rldarts_tf.envs.pool.shared_arrays import SharedArrays
from rldarts_tf.errors import ConfigError

Make = Callable[..., Any]

RESET, STEP, DONE = b"r", b"s", b"."
BAD_INPUT = 2


def main(make: Make, arguments: dict[str, Any], commands: int, answers: int) -> None:
    """Simulates until there are no more commands.

    Args:
      make: makes the environment, of dm_env, whose `reset` and `step` write the observation into
        the argument `out`.
      arguments: "environment": the arguments of `make`; "memory": the descriptor of the shared
        file; "num_envs": number of environments; "index": which of them this is.
      commands: descriptor to read from.
      answers: descriptor to write to.
    """
    environment = make(**arguments["environment"])
    described = greeting(environment)
    os.write(answers, json.dumps(described).encode() + b"\n")
    command = os.read(commands, 1)
    if not command:
        return
    # Not before the first command: until then the parent may not know the size of the file.
    shared = SharedArrays(arguments["memory"], arguments["num_envs"], **described)
    index = arguments["index"]
    while command:
        observation = shared.observation[index]
        if command == RESET:
            time_step = environment.reset(out=observation)
        elif command == STEP:
            time_step = environment.step(shared.action[index], out=observation)
        else:
            raise ValueError(f"unknown command {command!r}")
        _write(shared, index, time_step)
        os.write(answers, DONE)
        command = os.read(commands, 1)


def greeting(environment: Any) -> dict[str, Any]:
    """The arguments of `SharedArrays` that depend on the environment."""
    observation = environment.observation_spec()
    return {
        "action_size": environment.action_spec().shape[0],
        "observation_shape": list(observation.shape),
        "observation_dtype": observation.dtype.name,
    }


def _write(shared: SharedArrays, index: int, time_step: dm_env.TimeStep) -> None:
    """Writes what the environment has not written itself."""
    first = time_step.first()
    shared.step_type[index] = time_step.step_type
    shared.reward[index] = 0.0 if first else time_step.reward
    shared.discount[index] = 1.0 if first else time_step.discount


def run(make: Make) -> NoReturn:
    """Runs `main` on the descriptors of this process, and ends it."""
    code = exit_code(make)
    sys.stderr.flush()
    # Without taking a renderer down, which takes time and may complain.
    os._exit(code)


def exit_code(make: Make) -> int:
    """Runs `main` on the descriptors of this process, and returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        main(make, json.loads(sys.argv[1]), commands=0, answers=answers)
    except BrokenPipeError:  # The parent has died, and reads no answers.
        return 0
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
