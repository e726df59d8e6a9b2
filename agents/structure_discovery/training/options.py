"""How a network is trained."""

from dataclasses import dataclass, field, fields

from twinscope.agents.structure_discovery.networks.discovery import DiscoveryConfig
from twinscope.errors import ConfigurationError

_MAY_BE_ZERO = ("seed", "warmup", "weight_decay", "validation_samples", "realism", "cut_outs", "one_tip")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How a network is trained; together with the data it decides the weights.

    Attributes
    ----------
    steps
        Of the optimiser, in all.
    batch
        Samples in a step, over all devices.
    learning_rate
        The highest, after the warm-up; it falls to a hundredth by the end, along a cosine.
    warmup
        Steps until then.
    weight_decay
        Decoupled from the gradients (Loshchilov and Hutter, 2019).
    averaging
        Share of the average of all weights that stays at every step: what is used later is the average.
    noise
        Largest amplitude c of the noise: uniform over c times the range of a slice. Each sample has its own.
    whole
        Share of the stacks with all slices; from the others slices and lines are missing.
    realism
        Share of the stacks with drift, creep, coloured noise and hum, as :func:`~..training_data.realism.realistic`.
    cut_outs
        Share of the stacks of which small rectangles are blank.
    one_tip
        Share of the samples that were measured with the first tip only, where the recipe has more.
    validate_every
        Steps from one validation to the next; a checkpoint is written then, too.
    validation_samples
        How many.
    seed
        Of the initial weights, of the order of the samples and of the augmentation.
    network
        Its size.
    """

    steps: int = 8000
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    averaging: float = 0.998
    noise: float = 0.15
    whole: float = 0.6
    realism: float = 0.3
    cut_outs: float = 0.3
    one_tip: float = 0.5
    validate_every: int = 500
    validation_samples: int = 64
    seed: int = 0
    network: DiscoveryConfig = field(default_factory=DiscoveryConfig)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, int | float) and (value < 0 or (value == 0 and one.name not in _MAY_BE_ZERO)):
                raise ConfigurationError(f"the option {one.name} of the training is {value!r}: expected more than zero")
        for name in ("averaging", "whole", "realism", "cut_outs", "one_tip"):
            if getattr(self, name) > 1:
                raise ConfigurationError(
                    f"the option {name} of the training is {getattr(self, name)}: expected up to 1"
                )
