"""Whether a picture shows another scene than the one before: a cut in a film, a camera that was turned."""

import cv2
import numpy as np

from facesvc.vision.detection import Floats, Pixels

# So small that people who walk through it change little of it.
_COLUMNS, _ROWS = 32, 18
# Of the same scene, with some people moving and lights switched, the correlation stays above 0.8; of two scenes it is
# mostly below 0.3. A crowd that walks before a bare wall comes down to it too.
_SAME_SCENE = 0.5
# Grey levels. Less contrast than that is a covered lens or the dark: no scene at all.
_CONTRAST = 4.0


def thumbnail(pixels: Pixels) -> Floats:
    """A picture, (H, W, 3) uint8 RGB, as (18, 32) float32 grey, 0 to 255."""
    small = cv2.resize(pixels, (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def is_cut(before: Floats, after: Floats) -> bool:
    """Whether two thumbnails show different scenes: by their correlation, which a change of light does not touch."""
    before, after = before - before.mean(), after - after.mean()
    if min(before.std(), after.std()) < _CONTRAST:
        return bool(max(before.std(), after.std()) >= 2 * _CONTRAST)
    return float((before * after).mean() / (before.std() * after.std())) < _SAME_SCENE
