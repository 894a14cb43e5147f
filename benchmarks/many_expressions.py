"""One image with many expressions: encoding it once against encoding it for every expression, time for time.

make many-expressions                                    # the tiny presets of all methods
make many-expressions ARGS="--model rsrefseg2 --preset t --singles 4 --repeats 1"

Weights are random, sizes are real: the time does not depend on the values. Text mode `independent`. Processor time of
one thread, of the whole path from a native image to native masks. A method that reads the sentence inside its image
trunk has nothing to share and stays near 1.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable

import torch

from rrsis_zoo.methods.registry import list_models, method_named
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.types import Batch

SENTENCES = [
    f"the {colour} {thing} {place}"
    for colour in ("red", "large white", "small", "dark grey")
    for thing in ("ship", "storage tank", "vehicle", "tennis court")
    for place in ("on the left", "in the upper right corner of the image", "near the bridge", "at the bottom")
]


@torch.inference_mode()
def compare(model: ReferringSegmenter, expressions: int, singles: int, side: int, repeats: int) -> dict[str, float]:
    """Return both times in seconds, their ratio, and the largest difference of the mask logits.

    ``singles`` of the expressions are answered by single calls; their time is scaled to all.
    """
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, side, side), generator=rng, dtype=torch.uint8)
    sentences = SENTENCES[:expressions]

    def together() -> torch.Tensor:
        prediction = model(Batch([image], sentences, torch.zeros(expressions, dtype=torch.int64)))
        model.restore(prediction)
        return prediction.mask_logits

    def each() -> torch.Tensor:
        out = []
        for sentence in sentences[:singles]:
            prediction = model(Batch([image], [sentence], torch.tensor([0])))
            model.restore(prediction)
            out.append(prediction.mask_logits)
        return torch.cat(out)

    once_s, once = timed(together, repeats)
    singles_s, one_by_one = timed(each, repeats)
    each_s = singles_s * expressions / singles
    return {
        "singles": singles,
        "once_s": round(once_s, 3),
        "each_s": round(each_s, 3),
        "ratio": round(each_s / once_s, 2),
        "difference": float((once[:singles] - one_by_one).abs().max()),
        "spread": float(one_by_one.std()),
    }


def timed(function: Callable[[], torch.Tensor], repeats: int) -> tuple[float, torch.Tensor]:
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        out = function()
        best = min(best, time.process_time() - start)
    return best, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list_models(), help="one method; all by default")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--expressions", type=int, default=16)
    parser.add_argument("--singles", type=int, help="single calls that are timed, scaled to all; all by default")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in [options.model] if options.model else list_models():
        torch.manual_seed(0)
        model = method_named(name).model().from_preset(options.preset).eval()
        model.fit_tokenizer(SENTENCES)
        # 128 px scenes for the miniatures, 800 px as in RRSIS-D for the real sizes
        side = 128 if options.preset.startswith("tiny") else 800
        if not options.preset.startswith("tiny"):
            model.max_expressions = 4  # masks of real size: chunks keep the memory small
        singles = options.singles or options.expressions
        result = compare(model, options.expressions, singles, side, options.repeats)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            json.dumps(
                {
                    "model": name,
                    "preset": options.preset,
                    "expressions": options.expressions,
                    **result,
                    "peak_resident_GB": round(peak, 2),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
