"""Files to arrays and back: PNG, JPEG, GeoTIFF, vectors, archives; knows nothing of data sets."""
