"""The workloads of `kiln bench` in PyTorch on the CPU, with the same shapes: `python benches/pytorch.py`.

For the comparison in the README only; nothing of kiln needs it. Prints the median of several samples in milliseconds,
with as many threads as the machine has cores.
"""

import os
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(os.cpu_count())
torch.manual_seed(0)


def median_ms(run, samples=7, sample_seconds=0.03):
    run()
    run()
    start = time.perf_counter()
    run()
    repeats = max(1, int(sample_seconds / max(time.perf_counter() - start, 1e-7)))
    times = []
    for _ in range(samples):
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        times.append((time.perf_counter() - start) / repeats)
    return 1e3 * statistics.median(times)


def forward_backward(f, *inputs):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    cotangent = torch.randn_like(f(*leaves))

    def run():
        torch.autograd.grad(f(*leaves), leaves, cotangent)

    return run


def report(name, run):
    print(f"{name:<28} {median_ms(run):>10.4f}", flush=True)


for n in (512, 1024):
    a, b = torch.randn(n, n), torch.randn(n, n)
    report(f"matmul_{n}", lambda: a @ b)
a, b = torch.randn(128, 784), torch.randn(784, 512)
report("matmul_128x784x512", lambda: a @ b)
a, b = torch.randn(32, 128, 64), torch.randn(32, 64, 128)
report("bmm_32x128x64x128", lambda: a @ b)
for name, n, c, size, o in (("32x16x28_32", 32, 16, 28, 32), ("8x64x32_64", 8, 64, 32, 64)):
    x, w = torch.randn(n, c, size, size), torch.randn(o, c, 3, 3)
    report(f"conv_{name}_fwd", lambda: F.conv2d(x, w, padding=1))
    report(f"conv_{name}_fwdbwd", forward_backward(lambda x, w: F.conv2d(x, w, padding=1), x, w))
x = torch.randn(4096, 1024)
report("softmax_4096x1024", lambda: F.softmax(x, -1))
q, k, v = (torch.randn(4, 8, 256, 64) for _ in range(3))
for causal in (False, True):
    name = "causal" if causal else "full"
    sdpa = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    report(f"sdpa_{name}_fwd", lambda: sdpa(q, k, v))
    report(f"sdpa_{name}_fwdbwd", forward_backward(sdpa, q, k, v))
x, w, b = torch.randn(32, 64, 28, 28), torch.randn(64), torch.randn(64)
norm = lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)
report("batchnorm_fwd", lambda: norm(x, w, b))
report("batchnorm_fwdbwd", forward_backward(norm, x, w, b))
x, w, b = torch.randn(4096, 512), torch.randn(512), torch.randn(512)
norm = lambda x, w, b: F.layer_norm(x, (512,), w, b)
report("layernorm_fwd", lambda: norm(x, w, b))
report("layernorm_fwdbwd", forward_backward(norm, x, w, b))
x, a, b, c = (torch.randn(4 << 20) for _ in range(4))
report("elt_gelu_chain_4M_tensor", lambda: F.gelu(x * a + b) + c)
report("sum_4M", lambda: x.sum())
x = torch.randn(4096, 1024)
report("sum_axis0_4096x1024", lambda: x.sum(0))


def train(name, model, x, target, optimizer):
    """A step as `kiln bench train` takes it: one batch, forward, backward, update."""

    def run():
        optimizer.zero_grad()
        logits = model(x)
        F.cross_entropy(logits.view(-1, logits.shape[-1]), target).backward()
        optimizer.step()

    report(name, run)


class Block(nn.Module):
    """A pre-norm transformer block, as kiln's `Gpt`."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, w))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self, vocab=65, context=128, layers=4, heads=4, width=128):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        return self.head(self.ln_f(self.blocks(x)))


model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
classes = lambda *shape, n=10: torch.randint(n, shape)
train("train_digits", model, torch.randn(32, 64), classes(32), torch.optim.Adam(model.parameters()))
model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
train("train_mlp", model, torch.randn(128, 784), classes(128), torch.optim.Adam(model.parameters()))
convs = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
convs += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
model = nn.Sequential(*convs, nn.Linear(1568, 128), nn.ReLU(), nn.Linear(128, 10))
sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
train("train_cnn", model, torch.randn(64, 1, 28, 28), classes(64), sgd)
model = Gpt()
train("train_gpt", model, classes(16, 128, n=65), classes(2048, n=65), torch.optim.AdamW(model.parameters()))
