"""How few layers must stay fp32: ranges, equalisation, and a search over layers.

Everything is chosen on tuning images and then measured on held-out ones; no patient is in both.
"""

import statistics
import time
from dataclasses import dataclass, field

import numpy as np
import onnx

from . import nearness, qdq, ranges
from .equalise import equalised

# What int8 must reach over held-out radiographs.
CENTRED_MIN, JACCARD_MIN = 0.95, 0.8
# What every image must reach, so that the engines agree: one runs int8, another the stripped file,
# which is nearer to fp32 than int8 is.
BETWEEN_RAW, BETWEEN_CENTRED = 0.995, 0.95
# Smallest share of the multiplications that int8 must hold.
SHARE_MIN = 0.8
# 100 is min-max. Which of the others is better changes with the weights.
PERCENTILES = (100.0, 99.99, 99.9)
# Layers that the search leaves out at most.
LEFT_MAX = 24
# Layers are ranked by so many of the tuning images; what is picked is measured on all.
RANKED = 12


@dataclass
class Yardstick:
    """What a quantised graph is held against: images, the fp32 embedding, and a dictionary."""

    images: np.ndarray
    reference: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    sae: dict[str, np.ndarray] | None = None

    def part(self, count: int) -> "Yardstick":
        """The same with its first images only."""
        return Yardstick(self.images[:count], self.reference[:count], self.weight, self.bias, self.sae)

    def embedding(self, model: onnx.ModelProto) -> np.ndarray:
        """Embeddings of its images by a graph, pairs in uint8."""
        return nearness.embedding(ranges.tokens(qdq.unsigned(model), self.images), self.weight, self.bias)

    def measured(self, model: onnx.ModelProto) -> dict:
        """Centred cosine, and the Jaccard index of the active latents where there is a dictionary."""
        e = self.embedding(model)
        found = nearness.compared(e, self.reference)
        if self.sae is not None:
            found["jaccard"] = nearness.jaccard(nearness.active(e, self.sae), nearness.active(self.reference, self.sae))
        return found


@dataclass
class Choice:
    """A quantised graph and how it was made."""

    model: onnx.ModelProto
    base: onnx.ModelProto
    equalised: bool
    percentile: float
    left: list[str] = field(default_factory=list)
    found: dict = field(default_factory=dict)
    share: float = 0.0

    def row(self) -> dict:
        """A line of the table."""
        shown = {k: v for k, v in self.found.items() if k != "per_image"}
        return {"equalised": self.equalised, "percentile": self.percentile, "left": list(self.left), "int8_share": self.share} | shown


def passes(found: dict) -> bool:
    """Whether the gates hold: the mean of the images, and each of them."""
    mean = found["centred_mean"] >= CENTRED_MIN and found.get("jaccard", 1.0) >= JACCARD_MIN
    return mean and found["raw_min"] >= BETWEEN_RAW and found["centred_min"] >= BETWEEN_CENTRED


def distance(found: dict) -> float:
    """How far a choice is from fp32: what the search makes small."""
    return (1 - found["centred_mean"]) + (1 - found.get("jaccard", 1.0)) / 4 + (1 - found["raw_min"])


def made(base, clip, leave, equal: bool, percentile: float, stick: Yardstick) -> Choice:
    """Quantises and measures."""
    model = qdq.quantised(base, clip, frozenset(leave))
    return Choice(model, base, equal, percentile, sorted(leave), stick.measured(model), qdq.share(base, frozenset(leave)))


def clips(spread: dict, percentile: float) -> dict[str, float]:
    """Largest value kept of each activation."""
    return {name: one.clip(percentile) for name, one in spread.items()}


def schemes(model: onnx.ModelProto, calibration: np.ndarray, stick: Yardstick) -> tuple[list[Choice], dict]:
    """Every layer in int8, with and without equalisation, by each percentile; and the clips used."""
    found, used = [], {}
    plain = ranges.spreads(model, calibration, histogram=True)
    even = equalised(model, plain)
    for equal, base in ((False, model), (True, even)):
        spread = plain if not equal else ranges.spreads(base, calibration, histogram=True)
        for percentile in PERCENTILES:
            used[equal, percentile] = clips(spread, percentile)
            found.append(made(base, used[equal, percentile], (), equal, percentile, stick))
    return found, used


def sensitivity(best: Choice, clip: dict, stick: Yardstick) -> list[tuple[str, Choice]]:
    """Each layer alone put back into fp32; the most helpful first."""
    tried = []
    for node in [layer.node for layer in qdq.layers(best.base)[0]]:
        if qdq.share(best.base, frozenset([node])) >= SHARE_MIN:
            tried.append((node, made(best.base, clip, [node], best.equalised, best.percentile, stick)))
    return sorted(tried, key=lambda pair: distance(pair[1].found))


def searched(model: onnx.ModelProto, calibration: np.ndarray, stick: Yardstick, say=print) -> tuple[list[Choice], list[dict], list[Choice]]:
    """The schemes, what each layer's int8 costs, and the path from no layer in fp32 to enough."""
    tried, used = schemes(model, calibration, stick)
    for choice in tried:
        say(line(choice))
    best = min(preferred(tried), key=lambda choice: distance(choice.found))
    clip, few = used[best.equalised, best.percentile], stick.part(RANKED)
    ranked, base = sensitivity(best, clip, few), few.measured(best.model)
    costs = [
        {"layer": node, "products": qdq.share(best.base) - choice.share, "gain": distance(base) - distance(choice.found)}
        for node, choice in ranked
    ]
    return tried, costs, left_out(best, clip, [node for node, _ in ranked], stick, say)


def left_out(best: Choice, clip: dict, ranked: list[str], stick: Yardstick, say) -> list[Choice]:
    """Leaves layers out by rank until the gates hold, then quantises again each that they hold without."""
    path = [best]

    def measured(left: list[str]) -> Choice:
        choice = made(best.base, clip, left, best.equalised, best.percentile, stick)
        say(line(choice))
        return choice

    for node in ranked:
        left = [*path[-1].left, node]
        if passes(path[-1].found) or len(left) > LEFT_MAX:
            break
        if qdq.share(best.base, frozenset(left)) >= SHARE_MIN:
            path.append(measured(left))
    if passes(path[-1].found) and len(path[-1].left) > 1:
        for node in [n for n in reversed(ranked) if n in path[-1].left]:
            fewer = measured([n for n in path[-1].left if n != node])
            if passes(fewer.found):
                path.append(fewer)
    return path


def preferred(tried: list[Choice]) -> list[Choice]:
    """Of schemes that hold, those that clip nothing: a percentile suits the mean and costs the odd image."""
    holding = [choice for choice in tried if passes(choice.found)]
    return [choice for choice in holding if choice.percentile >= 100] or holding or tried


def line(choice: Choice) -> str:
    """One choice in words."""
    found = choice.found
    scheme = f"{'equalised' if choice.equalised else 'plain'}, {choice.percentile:g}"
    jaccard = f", Jaccard {found['jaccard']:.4f}" if "jaccard" in found else ""
    nearness = f"centred {found['centred_mean']:.4f}, worst raw {found['raw_min']:.4f}"
    return f"{scheme}, {len(choice.left)} in fp32, {choice.share:.1%} in int8: {nearness}{jaccard}"


def latency(models: dict[str, onnx.ModelProto], image: np.ndarray, rounds: int = 15) -> dict[str, float]:
    """Median milliseconds of one image by one thread, the graphs taking turns."""
    ready = {name: ranges.session(model) for name, model in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for step in range(rounds + 2):
        for name, one in ready.items():
            started = time.perf_counter()
            one.run(None, {one.get_inputs()[0].name: image[None]})
            # The first two of each warm up.
            if step >= 2:
                taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(times) for name, times in taken.items()}
