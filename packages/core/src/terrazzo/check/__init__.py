"""The data check: everything that is wrong with a data set, before a model is trained on it.

`check_data` decodes every file once and returns a `Report`; `check_before_training` is
what `terrazzo run` does first: headers of all files and one pass over the labels. ``scan`` looks at
all files, ``file_statistics`` at one of them; one file a family of findings:

    unusable_files  unreadable files, sizes, types, pairs
    label_values    raw values against the label map
    palettes        palette colours against the label map
    coverage        classes absent, masks that teach nothing
    headers         bands and types that differ inside a split or across splits
    bands           scales, outliers, clipped and empty images
    grids           grid and reference system of GeoTIFF pairs
    nan_pixels      NaN in GeoTIFF of floats
    label_nodata    label rasters that call a class nodata
    pixel_sizes     images of very different pixel sizes
    leaks           one image in two splits
    doubted_labels  labels that a trained model contradicts

`TrainingScales` sees the images whose band statistics a run takes, and looks for two scales.
"""

from __future__ import annotations

from terrazzo.check.before_training import check_before_training as check_before_training
from terrazzo.check.check_data import check_data as check_data
from terrazzo.check.check_data import warnings_before_training as warnings_before_training
from terrazzo.check.report import Report as Report
from terrazzo.check.training_scales import TrainingScales as TrainingScales
