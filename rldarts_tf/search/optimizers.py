"""α's own optimizer beside that of θ, for agents of TF-Agents, Acme and loops of one's own.

    optimizer = search.optimizer(theta_optimizer, agent_network)

is all that an agent needs: what a search method asks of it stands in the supernet's
`SearchSettings`, and by the defaults the optimizer is returned as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.alpha import Alpha
from rldarts_tf.encoders import Supernet
from rldarts_tf.errors import ConfigError

Pair = tuple[Any, tf.Variable]
"""A gradient and its variable."""


def supernets(*modules: tf.Module) -> list[Supernet]:
    """The supernets in modules, each once."""
    found = {
        id(part): part
        for module in modules
        for part in (module, *module.submodules)
        if isinstance(part, Supernet)
    }
    return list(found.values())


def alphas(*modules: tf.Module) -> list[Alpha]:
    """The α of the supernets in modules, each once, also where twins share one."""
    return list({id(part.alpha): part.alpha for part in supernets(*modules)}.values())


class SearchOptimizer(tf.Module):
    """Adam of the α of supernets that have settings in common, and the decay of their θ.

    A gradient step is one of θ and of α, or where they alternate of either in turn (equation 1 of
    RL-DARTS, first order); in the warm-up of θ alone. The gradient g of α is that of the loss and
    of the method's penalty, plus `alpha_weight_decay` α (the L2 penalty of DARTS' Adam,
    arXiv:1806.09055).

    Args:
      parts: the supernets, not necessarily built.

    Raises:
      ConfigError: their settings differ.
    """

    # What belongs to the network is no part of this module.
    _TF_MODULE_IGNORED_PROPERTIES = frozenset(
        (*tf.Module._TF_MODULE_IGNORED_PROPERTIES, "_supernets", "_alphas", "_variables")
    )

    def __init__(self, parts: Sequence[Supernet]) -> None:
        super().__init__(name="search_optimizer")
        self._supernets = self._no_dependency(list(parts))
        self._alphas = self._no_dependency(alphas(*parts))
        self._settings = parts[0].alpha.search
        if any(part.alpha.search != self._settings for part in parts):
            raise ConfigError(
                "SearchSettings: supernets that one optimizer trains must have the same"
            )
        of_alpha = [w for alpha in self._alphas for w in alpha.trainable_weights]
        self._variables = self._no_dependency(of_alpha)
        # An α that is not trained takes no turns.
        self._alternates = self._settings.alternate and bool(of_alpha)
        self._of_alpha = False
        own = self._variables if self.has_own_adam else ()
        self.turn = tf.Variable(0, dtype=tf.int64, trainable=False, name="turn")
        self.num_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="alpha_steps")
        self.moments = [
            [tf.Variable(tf.zeros_like(w), trainable=False, name=name) for w in own]
            for name in ("alpha_m", "alpha_v")
        ]

    @classmethod
    def needed_by(cls, *modules: tf.Module) -> SearchOptimizer | None:
        """A new one if a supernet in the modules has a search method that needs it, else None."""
        parts = [part for part in supernets(*modules) if part.alpha.search.has_optimizer]
        return cls(parts) if parts else None

    @property
    def has_own_adam(self) -> bool:
        """Whether α is trained here, and not with θ."""
        return self._settings.alpha_learning_rate is not None

    def split(self, pairs: Iterable[Pair]) -> tuple[list[Pair], list[Pair]]:
        """(those of the optimizer of θ, those of α that are trained here)."""
        own = {w.ref() for w in self._variables} if self.has_own_adam else set()
        parts: tuple[list[Pair], list[Pair]] = ([], [])
        for gradient, variable in pairs:
            parts[variable.ref() in own].append((gradient, variable))
        return parts

    def step(
        self,
        of_theta: Sequence[Pair],
        of_alpha: Sequence[Pair],
        learning_rate: Any,
        apply: Callable[[], Any],
    ) -> None:
        """Makes a gradient step; in a trace or eagerly.

        Args:
          of_theta: what the optimizer of θ is given.
          of_alpha: see `split`.
          learning_rate: of θ.
          apply: applies the gradients of θ.
        """

        def apply_theta() -> None:
            self._decay([variable for _, variable in of_theta], learning_rate)
            apply()

        moves = self._alpha_moves()
        if self._alternates:
            apply_if(tf.logical_not(moves), apply_theta)
            self.turn.assign_add(1)
        else:
            apply_theta()
        if of_alpha:
            gradients = {variable.ref(): gradient for gradient, variable in of_alpha}
            apply_if(moves, lambda: self._apply_adam(gradients))

    def of_theta_alone(self, term: tf.Tensor) -> tf.Tensor:
        """A term of the loss, without its gradient in a step of α alone.

        Such as PPO's entropy bonus, which the loss of α need not have (RL-DARTS A.2.2). Where a
        step trains both there is one loss, and it has the term.
        """
        if not self._alternates:
            return term
        if self._of_alpha:
            return tf.stop_gradient(term)
        return tf.where(self._alpha_moves(), tf.stop_gradient(term), term)

    @contextlib.contextmanager
    def loss_of_alpha(self) -> Iterator[None]:
        """Within it a loss is that of a step of α, whoever's turn it is; eagerly or in a trace."""
        before, self._of_alpha = self._of_alpha, True
        try:
            yield
        finally:
            self._of_alpha = before

    def _alpha_moves(self) -> tf.Tensor:
        """Whether the next step is one of α; where they alternate, of α alone."""
        awake = self._supernets[0].alpha.progress >= self._settings.warm_up
        is_turn = tf.equal(self.turn % 2, 1) if self._alternates else True
        return tf.logical_and(awake, is_turn)

    def _decay(self, variables: Sequence[tf.Variable], learning_rate: Any) -> None:
        """θ <- (1 - η λ) θ of the kernels in the supernets (Loshchilov & Hutter 2019)."""
        rate = self._settings.theta_weight_decay
        if not rate:
            return
        alpha = {w.ref() for w in self._variables}
        theta = {w.ref() for part in self._supernets for w in part.trainable_weights} - alpha
        for variable in variables:
            if variable.ref() in theta and variable.shape.rank > 1:
                variable.assign_sub(tf.cast(learning_rate * rate, variable.dtype) * variable)

    def _apply_adam(self, gradients: dict[Any, tf.Tensor]) -> None:
        """Kingma & Ba 2015, end of section 2, on g."""
        settings = self._settings
        self.num_steps.assign_add(1)
        t = tf.cast(self.num_steps, tf.float32)
        penalties = self._penalty_gradients()
        for variable, penalty, m, v in zip(self._variables, penalties, *self.moments):
            g = tf.convert_to_tensor(gradients[variable.ref()]) + penalty
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=tf.pow(settings.alpha_beta_1, t),
                beta2_power=tf.pow(settings.alpha_beta_2, t),
                lr=settings.alpha_learning_rate,
                beta1=settings.alpha_beta_1,
                beta2=settings.alpha_beta_2,
                epsilon=1e-8,
                grad=g + settings.alpha_weight_decay * variable,
            )

    def _penalty_gradients(self) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(self._variables))
            penalty = tf.add_n([alpha.penalty() for alpha in self._alphas])
        return tape.gradient(penalty, list(self._variables), unconnected_gradients="zero")


class SplitOptimizer(tf.Module):
    """An optimizer of θ, of Keras or of Sonnet, beside that of α.

    Attributes:
      theta: the optimizer of θ.
      alpha: the other one.
    """

    def __init__(self, theta: Any, alpha: SearchOptimizer) -> None:
        super().__init__(name="split_optimizer")
        self.theta, self.alpha = theta, alpha

    def apply_gradients(self, grads_and_vars: Iterable[Pair], *args: Any, **kwargs: Any) -> None:
        """As Keras' optimizers."""
        theta, alpha = self.alpha.split(grads_and_vars)

        def apply() -> None:
            self.theta.apply_gradients(theta, *args, **kwargs)

        self.alpha.step(theta, alpha, self.theta.learning_rate, apply)

    def apply(self, updates: Sequence[Any], parameters: Sequence[tf.Variable]) -> None:
        """As Sonnet's optimizers."""
        theta, alpha = self.alpha.split(zip(updates, parameters))
        self.alpha.step(
            theta, alpha, self.theta.learning_rate, lambda: self.theta.apply(*zip(*theta))
        )

    def _initialize(self, parameters: Sequence[tf.Variable]) -> None:
        """Makes the moments of θ, as Sonnet's optimizers do."""
        theta, _ = self.alpha.split((None, parameter) for parameter in parameters)
        self.theta._initialize([variable for _, variable in theta])


def apply_if(condition: tf.Tensor, apply: Callable[[], Any]) -> None:
    """Applies gradients where a traced condition holds."""

    def applied() -> tf.Tensor:
        apply()
        return tf.constant(0)

    tf.cond(condition, applied, lambda: tf.constant(0))


def optimizer(theta_optimizer: Any, *modules: tf.Module) -> Any:
    """What trains θ and α: the optimizer of θ itself where the search method asks for no more.

    Args:
      theta_optimizer: of Keras (`apply_gradients`) or of Sonnet (`apply`).
      *modules: those that are trained; supernets in them are found. They share their settings.
    """
    alpha = SearchOptimizer.needed_by(*modules)
    return theta_optimizer if alpha is None else SplitOptimizer(theta_optimizer, alpha)
