"""One file a model; its name is the model's name.

Each holds `Options`, the options of the model; `SMALL`, options for tests; `FACTS`, a literal for
``terrazzo list models``, see `terrazzo.models.catalog`; `ENCODER` and `HEAD`, see
`terrazzo.models.parameter_groups`; and
``build(options, num_bands, num_classes)``, a new `torch.nn.Module`.

It takes normalised images, float32 B×C×H×W of any height and width, and returns logits B×K×H×W; in
training mode, where it has an auxiliary head, `TrainingLogits`. Its weights are random unless
``options.pretrained`` names others; its ``remarks`` then say what was taken over and what had to be
changed. Its ``encoder`` is the part that weights trained on ImageNet are of.
"""
