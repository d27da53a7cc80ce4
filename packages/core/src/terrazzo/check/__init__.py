"""The data doctor: everything that is wrong with a data set, before a model is trained on it.

`examine` decodes every file once and returns a `Report`; `before_training` looks at headers alone
and is what `terrazzo run` does first. One file a family of findings:

    faults      unreadable files, sizes, types, pairs
    values      raw values against the label map
    palettes    palette colours against the label map
    coverage    classes absent, masks that teach nothing
    bands       scales, outliers, clipped and empty pictures
    places      grid and reference system of GeoTIFF pairs
    undefined   NaN in GeoTIFF of floats
    leaks       one picture in two splits
    suspects    labels a trained model doubts
"""

from __future__ import annotations

from terrazzo.check.examine import before_training as before_training
from terrazzo.check.examine import examine as examine
from terrazzo.check.report import Report as Report
