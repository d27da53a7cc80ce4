"""One file a model; its name is the model's name.

Each holds `Options`, the knobs of the model; `SMALL`, options for tests; `ENCODER` and `HEAD`, see
`terrazzo.parts`; and ``build(options, num_bands, num_classes)``, a new `torch.nn.Module` with
random weights that takes normalised images, float32 B×C×H×W of any height and width, and returns
logits B×K×H×W.
"""
