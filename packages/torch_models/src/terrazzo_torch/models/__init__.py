"""One file a model; its name is the model's name.

Each holds `Options`, the knobs of the model; `SMALL`, options for tests; `FACTS`, a literal for
``terrazzo list models``, see `terrazzo.model_facts`; and
``build(options, num_bands, num_classes)``, a new `torch.nn.Module` that takes normalised images, float32 B×C×H×W of any height and width, and
returns logits B×K×H×W, or in training mode `TrainingLogits`. Its weights are random unless
``options.pretrained`` names others; then its ``remarks`` say what was taken over and what had to be
changed. Its ``encoder`` is the part that weights trained on ImageNet are of.
"""
