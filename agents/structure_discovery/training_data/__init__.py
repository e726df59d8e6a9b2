"""Training data of structure discovery: molecules in, images and truth out."""

from twinscope.agents.structure_discovery.training_data.batch import Batch as Batch
from twinscope.agents.structure_discovery.training_data.imaging import MoleculeLike as MoleculeLike
from twinscope.agents.structure_discovery.training_data.imaging import simulate_samples as simulate_samples
from twinscope.agents.structure_discovery.training_data.recipe import PUBLISHED as PUBLISHED
from twinscope.agents.structure_discovery.training_data.recipe import TWINSCOPE as TWINSCOPE
from twinscope.agents.structure_discovery.training_data.recipe import TWO_TIPS as TWO_TIPS
from twinscope.agents.structure_discovery.training_data.recipe import Recipe as Recipe
from twinscope.agents.structure_discovery.training_data.shards import Shards as Shards
from twinscope.agents.structure_discovery.training_data.shards import write_shards as write_shards
from twinscope.agents.structure_discovery.training_data.stream import Stream as Stream
