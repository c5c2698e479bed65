"""Peak memory of one training step in PyTorch on the CPU, for the networks of kiln's presets: `python benches/memory.py`.

What `kiln train PRESET --dry-run` plans is the same sum: parameters, buffers, state of the optimizer, the batch, and the
largest total of what lives within a step (activations, gradients, temporary results). PyTorch's is read from the
allocations that its profiler records.
"""

import json
import tempfile

import torch
from chars_gpt import CONTEXT, Gpt
from torch import nn
from torch.nn import functional as F


def cnn(size, stages):
    layers, width = [], 1
    for stage in stages:
        for out in stage:
            layers += [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            width = out
        layers.append(nn.MaxPool2d(2))
        size //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(width * size * size, 10))


def peak_bytes(model, optimizer, x, y):
    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = model(x)
        loss = F.cross_entropy(logits.flatten(0, -2), y.flatten())
        del logits
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    step()
    step()
    optimizer.zero_grad(set_to_none=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as prof:
        step()
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        prof.export_chrome_trace(f.name)
        events = json.load(open(f.name))["traceEvents"]
    live = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        live += event["args"]["Bytes"]
        peak = max(peak, live)
    fixed = [*model.parameters(), *model.buffers(), x, y]
    fixed += [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
    return peak + sum(t.numel() * t.element_size() for t in fixed)


def main():
    torch.manual_seed(0)
    labels = lambda n: torch.randint(10, (n,))
    image = lambda n, size: torch.rand(n, 1, size, size)
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    gpt = Gpt(73, 0.0, "gpt2")
    tokens = torch.randint(73, (16, CONTEXT + 1))
    runs = [
        ("digits-mlp", mlp, torch.optim.Adam(mlp.parameters()), image(32, 8), labels(32)),
        ("digits-cnn", model := cnn(8, [[16, 32], [64]]), torch.optim.AdamW(model.parameters()), image(32, 8), labels(32)),
        ("mnist-cnn", model := cnn(28, [[16], [32]]), torch.optim.AdamW(model.parameters()), image(64, 28), labels(64)),
        ("chars-gpt", gpt, torch.optim.AdamW(gpt.parameters()), tokens[:, :-1], tokens[:, 1:]),
    ]
    for name, model, optimizer, x, y in runs:
        print(f"{name:12} {peak_bytes(model, optimizer, x, y) / 2**20:8.2f} MiB")


if __name__ == "__main__":
    main()
