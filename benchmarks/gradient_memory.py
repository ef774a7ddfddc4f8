"""Peak memory of one exact gradient through a defence, for t' = 10 against t' = 100.

    python benchmarks/gradient_memory.py [config/config.yaml]

The defence is ESRGAN x2, the VP-SDE with DiffPure's steps of 1/1000, and the classifier in
ResNet-50's role, on one 224x224 image. Each gradient is taken in a process of its own; its peak is
the process's resident memory, or the GPU's where there is one. Recomputed step by step, the longer
trajectory keeps 90 images more. The exit status is 1 where it costs more than 1.3 times the memory.
"""

import resource
import subprocess
import sys
from dataclasses import replace

import torch

from puriflow.config import load_config
from puriflow.defence import Defence
from puriflow.randomness import ImageNoise

LEVELS = (10, 100)
LIMIT = 1.3
MIB = 2**20


def measure(file: str, level: int) -> float:
    """Peak memory of one gradient in this process, in MiB."""
    config = load_config(file)
    roles = {"restorer": "esrgan-x2", "purifier": "vpsde-t90", "classifier": "resnet50"}
    parts = dict(config.parts(roles))
    options = {**parts["purifier"].options, "t": level, "evaluations": level}
    parts["purifier"] = replace(parts["purifier"], options=options)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    defence = Defence.from_parts(parts, seed=0).to(device).eval().requires_grad_(False)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    x.requires_grad_()
    logits = defence.classifier(defence.purified(x, ImageNoise(0, "benchmark", [0])))
    torch.autograd.grad(logits.logsumexp(1).sum(), x)
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / MIB
    # kilobytes on Linux, bytes on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def main(file: str) -> None:
    """Print the peaks and their ratio."""
    peaks = []
    for level in LEVELS:
        command = [sys.executable, __file__, file, str(level)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks.append(float(answer.stdout))
        print(f"t' = {level:<4} {peaks[-1]:8.1f} MiB", flush=True)
    ratio = peaks[1] / peaks[0]
    print(f"ratio     {ratio:8.3f} (at most {LIMIT})")
    sys.exit(ratio > LIMIT)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(measure(sys.argv[1], int(sys.argv[2])))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "config/config.yaml")
