"""What a model is, from what its file says of itself: kind, size and precision (pure).

Source: the GGUF specification for the keys, llama.cpp's list of file types for the names of precisions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from localai.node.sources.gguf_metadata import GgufFront, Scalar

CHAT_TEMPLATE = "tokenizer.chat_template"
_FILE_TYPE = "general.file_type"
_PRECISIONS = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
}


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What is known of a model. Texts are empty and numbers 0 where the file does not say."""

    family: str = ""
    """The architecture, such as ``llama``."""
    parameters: int = 0
    """How many numbers it is made of."""
    precision: str = ""
    """How they are stored, such as ``Q4_K_M``."""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    """Everything with a single value in the file's front, but for the template."""
    chat_template: str = ""

    @property
    def size_words(self) -> str:
        """The number of parameters for people: ``134.52M``, ``7.2B``; empty when it is not known."""
        for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 2)):
            if self.parameters >= unit:
                return f"{self.parameters / unit:.{digits}f}{letter}"
        return str(self.parameters or "")


def details_from_front(front: GgufFront) -> ModelDetails:
    """What a file says; parameters are counted from its tensors."""
    kind = front.metadata.get(_FILE_TYPE)
    template = front.metadata.get(CHAT_TEMPLATE, "")
    return ModelDetails(
        family=front.architecture,
        parameters=sum(math.prod(tensor.dimensions) for tensor in front.tensors),
        precision=_PRECISIONS.get(kind, "") if isinstance(kind, int) else "",
        metadata={key: value for key, value in front.metadata.items() if not key.startswith(CHAT_TEMPLATE)},
        chat_template=template if isinstance(template, str) else "",
    )
