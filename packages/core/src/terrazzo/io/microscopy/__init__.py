"""Files of microscopes and scanners: stacks, OME-TIFF, OME-Zarr, DICOM, whole slides.

One file stands for one image of rows, columns and bands; what else it holds, such as depths and
points in time, must be chosen by a `plane`. Each kind of file has a module that opens it as a
`MicroscopeImage`, of which windows are read; `io.rasters` reads them as it reads GeoTIFF.
"""
