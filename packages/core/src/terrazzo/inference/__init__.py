"""Trained models applied: to arrays, to images, to scenes larger than memory.

``model`` takes arrays; ``predict`` takes files and names every output before one is written.
``scene_lists`` reads which files make a scene, ``scene_opening`` finds the model's bands in them.
``tiles`` cuts a scene, ``tiled_prediction`` and ``blending`` make rows of classes of the tiles,
``map_writer`` makes files of the rows. ``jobs`` shares the rows among executors: this process,
``process_pool`` or ``ray_pool``. ``labelling`` writes what labelling programs read;
``cvat_function`` is what CVAT's command line calls.
"""
