"""Import torchvision beside a CPU build of torch.

PyPI's torchvision is built for CUDA, and with the CPU build of torch its import dies because two
operators are not registered. Declaring their schemas first makes the import work; where they exist,
nothing is done. Import this module before torchvision, timm or torchattacks.
"""

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    LIBRARY = torch.library.Library("torchvision", "DEF")  # kept, since the schemas go with it
    for schema in SCHEMAS:
        LIBRARY.define(schema)
