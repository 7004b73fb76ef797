"""Many machines: pictures of any number through Ray Data into Parquet files.

The command `resnest-zoo predict-dataset` is `predict_dataset`. For a pipeline of one's own there are
`read_pictures` and `DatasetPredictor`, the callable class for `map_batches`. The extra `ray` is imported when
one of them is used; reading results back needs pyarrow alone.
"""

from resnest_zoo.integrations.ray.job import Done, Workers, predict_dataset, read_pictures
from resnest_zoo.integrations.ray.results import Predictions, read_predictions
from resnest_zoo.integrations.ray.rows import schema
from resnest_zoo.integrations.ray.sources import Listing, find_pictures
from resnest_zoo.integrations.ray.worker import DatasetPredictor

__all__ = [
    "DatasetPredictor",
    "Done",
    "Listing",
    "Predictions",
    "Workers",
    "find_pictures",
    "predict_dataset",
    "read_pictures",
    "read_predictions",
    "schema",
]
