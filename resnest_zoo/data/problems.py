"""What can be wrong with a data set, collected so that its owner hears of everything at once."""

from __future__ import annotations

from enum import Enum

from resnest_zoo.errors import DataError, cut

_SHOWN = 10
_LONGEST = 600  # letters of a name: two paths, the one missing and the one meant


class Problem(Enum):
    """A kind of problem: what is wrong, and what skipping it means.

    "left out" without more concerns the annotation or picture named. Flat boxes and bad polygons are what
    detectron2 leaves out without an error; it cuts boxes at the border and fails at most of the rest.
    """

    PICTURE_MALFORMED = "pictures without a file name, an id or a size of at least 1 x 1", "left out"
    PICTURE_REPEATED = "pictures whose id an earlier picture has", "left out"
    FILE_MISSING = "pictures whose file is missing", "left out"
    PANOPTIC_MISSING = "pictures without a panoptic annotation", "left out"
    PANOPTIC_FILE_MISSING = "pictures whose panoptic file is missing", "left out"
    PANOPTIC_MALFORMED = "panoptic annotations without a file name or segments", "left out with the picture"
    PANOPTIC_IDS = (
        "panoptic annotations with segment ids that repeat or are not from 1 to 16777215, as 0 is void",
        "left out with the picture",
    )
    PANOPTIC_CATEGORY = "panoptic segments of a category that is not in the list", "ignored in training"
    ANNOTATION_MALFORMED = "annotations without a picture's or a category's id", "left out"
    CROWD_MALFORMED = "annotations whose iscrowd is not 0, 1, true or false", "left out"
    ANNOTATION_IGNORED = 'annotations marked "ignore", which training cannot honour', "left out"
    CATEGORY_UNKNOWN = "annotations of a category that is not in the list", "left out"
    BOX_MALFORMED = "boxes that are not four finite numbers", "left out"
    BOX_FLAT = "boxes without width or height", "left out"
    BOX_OUTSIDE = "boxes outside their picture", "left out"
    BOX_BEYOND = "boxes that pass their picture's border by more than a pixel", "cut at the border"
    MASK_MISSING = "annotations without a segmentation", "left out"
    POLYGON_MALFORMED = (
        "annotations with polygons that are not lists of at least six finite numbers (x, y, x, y, ...)",
        "these polygons are left out, and annotations that have no others",
    )
    RLE_MALFORMED = "annotations whose run-length encoding does not fill their picture", "left out"

    def __init__(self, what: str, when_skipped: str) -> None:
        self.what = what
        self.when_skipped = when_skipped


class Problems:
    """The problems of one data set, by kind, in the order found."""

    def __init__(self) -> None:
        self._found: dict[Problem, list[str]] = {}

    def __len__(self) -> int:
        return sum(len(names) for names in self._found.values())

    def add(self, problem: Problem, name: str) -> None:
        """Note one problem; `name` tells its owner where to look."""
        self._found.setdefault(problem, []).append(cut(name, _LONGEST))

    def report(self) -> str:
        """A line for each kind: how many, the first ten of them, and what skipping means."""
        lines = []
        for problem in Problem:
            names = self._found.get(problem, [])
            if names:
                more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                shown = ", ".join(names[:_SHOWN])
                lines.append(f"  {len(names)} × {problem.what}: {shown}{more} ({problem.when_skipped})")
        return "\n".join(lines)

    def refuse(self, source: str) -> None:
        """Do nothing when there are none.

        Raises:
            DataError: the whole report.
        """
        if self._found:
            raise DataError(
                f"{source}: bad pictures or annotations (problems: {len(self)}). Correct them, or go on with "
                f"skip_bad=True, which does what stands in brackets:\n{self.report()}"
            )
