"""Files of weights: what each must be, where it is kept, how it arrives. No torch in this room.

`fetch` turns an `Artifact` into the path of a verified file.
"""

from resnest_zoo.hub.artifact import Artifact
from resnest_zoo.hub.cache import cache_dir, cached_path, find_fault
from resnest_zoo.hub.download import fetch

__all__ = ["Artifact", "cache_dir", "cached_path", "fetch", "find_fault"]
