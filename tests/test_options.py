"""The options of an encoder stand in one place, and every way to make one takes them."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest

import rldarts_tf
from rldarts_tf import EncoderOptions, factory
from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import setting

OPTIONS = {field.name: field.default for field in dataclasses.fields(EncoderOptions)}


def arguments(function):
    """Defaults of the arguments that a signature shows, by name."""
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def doors():
    """The four ways to make an encoder of options."""
    tf_agents = pytest.importorskip("rldarts_tf.encoding_network")
    acme = pytest.importorskip("rldarts_tf.torso")
    settings = pytest.importorskip("rldarts_tf.training.settings")
    return (
        rldarts_tf.make_encoder,
        tf_agents.EncodingNetwork,
        acme.Torso.__init__,
        settings.EncoderSettings,
    )


def test_each_door_shows_every_option_with_its_default():
    for door in doors():
        shown = arguments(door)
        assert {name: shown[name] for name in OPTIONS} == OPTIONS, door


def test_each_door_takes_every_option_and_no_other():
    spec = pytest.importorskip("tf_agents.specs.tensor_spec").TensorSpec((8, 8, 3), "float32")
    make, encoding_network, _, settings = doors()
    torso = pytest.importorskip("rldarts_tf.torso").Torso
    ways = (
        make,
        lambda **options: encoding_network(spec, **options).encoder,
        lambda **options: torso(**options).encoder,
        lambda **options: settings(**options).make("supernet"),
    )
    changed = {
        "search_space": "micro",
        "depths": [3, 4],
        "output_mode": "sum",
        "inverse_temperature": 2.0,
        "normalization": "layer",
        "features": 5,
        "train_alpha": False,
        "recompute": True,
        "precision": "mixed_bfloat16",
        "head": "layer_norm",
        "kernel_size": 5,
    }
    assert set(changed) == set(OPTIONS)
    assert all(value != OPTIONS[name] for name, value in changed.items())
    names = set(changed) - {"precision", "kernel_size"}
    expected = rldarts_tf.Supernet(
        **{name: changed[name] for name in names}, dtype="mixed_bfloat16"
    ).get_config()
    for way in ways:
        assert {**way(**changed).get_config(), "name": expected["name"]} == expected
    for way in ways:
        with pytest.raises(TypeError, match="dephts"):
            way(dephts=[3])


def test_options_of_an_object_are_replaced_by_single_ones():
    options = EncoderOptions(search_space="micro", depths=[3], features=5)
    encoder = rldarts_tf.make_encoder(options=options, features=6)
    assert (encoder.space.name, encoder.depths, encoder.features) == ("micro", (3,), 6)
    assert options.features == 5
    again = EncoderOptions(search_space="micro", depths=(3,), features=5)
    assert options == again and hash(options) == hash(again)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.features = 6


def test_every_option_is_an_argument_of_some_kind_which_has_the_same_default():
    taken = {kind: factory._arguments(made) for kind, made in factory.ENCODERS.items()}
    assert set(OPTIONS) - set.union(*taken.values()) == {"precision"}  # of Keras: dtype
    assert all("dtype" in names for names in taken.values())
    assert "depths" not in taken["nature_cnn"] and "kernel_size" not in taken["supernet"]
    for made in (rldarts_tf.Supernet, rldarts_tf.Encoder, rldarts_tf.DiscreteNetwork):
        defaults = arguments(made)
        for name in set(OPTIONS) & set(defaults):
            assert defaults[name] in (OPTIONS[name], inspect.Parameter.empty), (made, name)


def test_a_new_option_is_a_field_and_an_argument_of_the_classes_that_have_it(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class More(EncoderOptions):
        filters: int = setting(3, "filters", least=1)

    class Own(rldarts_tf.Encoder):
        def __init__(self, filters=1, **kwargs):
            super().__init__(**kwargs)
            self.filters = filters

    monkeypatch.setitem(factory.ENCODERS, "own", Own)
    made = rldarts_tf.make_encoder("own", options=More(features=7), filters=4)
    assert (type(made), made.filters, made.features) == (Own, 4, 7)
    assert rldarts_tf.make_encoder("nature_cnn", options=More(features=7)).features == 7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("depths", [], "depths is empty"),
        ("depths", "16", "depths must be a list of integers, got '16'"),
        ("depths", [4, 0], r"depths\[1\] must be an integer of at least 1, got 0"),
        ("output_mode", "median", "output_mode must be one of concat, .*got 'median'"),
        ("inverse_temperature", 0, "inverse_temperature must be positive"),
        ("normalization", "group", "normalization must be one of None, layer, batch, got 'group'"),
        ("features", 0, "features must be an integer of at least 1, got 0"),
        ("train_alpha", 1, "train_alpha must be True or False, got 1"),
        ("recompute", None, "recompute must be True or False, got None"),
        ("recompute", "yes", "recompute must be True or False, got 'yes'"),
        ("precision", "float16", "precision must be one of float32, .*got 'float16'"),
        ("precision", 16, "precision must be one of .*mixed_bfloat16, .*got 16"),
        ("head", "tanh", "head must be one of relu, layer_norm, pool, got 'tanh'"),
        ("kernel_size", 0, "kernel_size must be an integer of at least 1, got 0"),
    ],
)
def test_an_option_that_is_not_valid_is_named_in_one_line(name, value, message):
    with pytest.raises(ConfigError, match=rf"^EncoderOptions\.{message}") as raised:
        EncoderOptions(**{name: value})
    assert "\n" not in str(raised.value)


def test_options_need_no_tensorflow():
    program = (
        "import sys, rldarts_tf; rldarts_tf.EncoderOptions(depths=[8], precision='mixed_bfloat16');"
        "print('tensorflow' in sys.modules, 'numpy' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert output.stdout.split() == [b"False", b"False"]
