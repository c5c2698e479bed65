"""Writes modules.json: results and gradients of PyTorch's modules on inputs and weights that the tests can make again.

    pip install torch numpy
    python tests/golden/modules.py

Element i of input number k is sin(0.7 i + 0.3 + k), that of the parameter at place k among the sorted names
0.3 sin(0.37 i + k), and the loss is the sum of the result times sin(0.9 i + 0.3). Of each gradient two numbers are kept: the
sum of its elements times sin(0.5 i + 0.3), and its norm. All in f64.
"""
import json
import os
import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float64)


def wave(shape, k, start=0.3):
    n = int(np.prod(shape))
    return torch.tensor(np.sin(np.arange(n) * k + start)).reshape(shape)


class ConvolutionModule(nn.Module):
    """torchaudio's convolution part of a conformer layer, written from its description."""

    def __init__(self, d, kernel):
        super().__init__()
        self.layer_norm = nn.LayerNorm(d)
        self.sequential = nn.Sequential(
            nn.Conv1d(d, 2 * d, 1), nn.GLU(dim=1), nn.Conv1d(d, d, kernel, padding=(kernel - 1) // 2, groups=d),
            nn.BatchNorm1d(d), nn.SiLU(), nn.Conv1d(d, d, 1), nn.Dropout(0.0))

    def forward(self, x):
        return self.sequential(self.layer_norm(x).transpose(1, 2)).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, d, inner):
        super().__init__()
        self.sequential = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, inner), nn.SiLU(), nn.Dropout(0.0),
                                        nn.Linear(inner, d), nn.Dropout(0.0))

    def forward(self, x):
        return self.sequential(x)


class ConformerLayer(nn.Module):
    def __init__(self, d, inner, heads, kernel):
        super().__init__()
        self.ffn1 = FeedForward(d, inner)
        self.self_attn_layer_norm = nn.LayerNorm(d)
        self.self_attn = nn.MultiheadAttention(d, heads)
        self.conv_module = ConvolutionModule(d, kernel)
        self.ffn2 = FeedForward(d, inner)
        self.final_layer_norm = nn.LayerNorm(d)

    def forward(self, x):
        x = self.ffn1(x) * 0.5 + x
        y = self.self_attn_layer_norm(x)
        x = self.self_attn(y, y, y, need_weights=False)[0] + x
        x = self.conv_module(x.transpose(0, 1)).transpose(0, 1) + x
        x = self.ffn2(x) * 0.5 + x
        return self.final_layer_norm(x)


def record(module, *inputs, **options):
    inputs = [wave(shape, 0.7, 0.3 + k).requires_grad_() for k, shape in enumerate(inputs)]
    names = sorted(name for name, _ in module.named_parameters())
    with torch.no_grad():
        for k, name in enumerate(names):
            p = module.get_parameter(name)
            p.copy_(0.3 * wave(p.shape, 0.37, k))
    y = module(*inputs, **options)
    (y * wave(y.shape, 0.9)).sum().backward()
    kept = lambda g: [float((g * wave(g.shape, 0.5)).sum()), float(g.norm())]
    return {
        "out": [float(f"{v:.9g}") for v in y.detach().flatten()],
        "inputs": [kept(x.grad) for x in inputs],
        "grads": {name: kept(module.get_parameter(name).grad) for name in names},
    }


mask = nn.Transformer.generate_square_subsequent_mask(3)
cases = {
    "transformer": record(nn.Transformer(8, 2, 2, 2, 16, dropout=0.0), (4, 2, 8), (3, 2, 8), tgt_mask=mask),
    "conformer": record(ConformerLayer(8, 12, 2, 3), (5, 2, 8)),
    "conv1d": record(nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 7)),
    "conv3d": record(nn.Conv3d(2, 3, 2), (1, 2, 3, 4, 3)),
    "conv_transpose1d": record(nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 4, 5)),
    "conv_transpose2d": record(nn.ConvTranspose2d(2, 3, 3, stride=2), (1, 2, 3, 2)),
    "instance_norm1d": record(nn.InstanceNorm1d(3, affine=True), (2, 3, 5)),
    "rms_norm": record(nn.RMSNorm(7), (3, 7)),
    "weight_norm": record(nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)), (4, 5)),
}
for name, module in {
    "elu": nn.ELU(0.7), "leaky_relu": nn.LeakyReLU(0.2), "hardsigmoid": nn.Hardsigmoid(), "hardswish": nn.Hardswish(),
    "hardtanh": nn.Hardtanh(-0.3, 0.5), "softplus": nn.Softplus(2.0), "log_softmax": nn.LogSoftmax(-1), "glu": nn.GLU(1),
    "mish": nn.Mish(), "selu": nn.SELU(), "log_sigmoid": nn.LogSigmoid(), "softsign": nn.Softsign(),
    "max_pool1d": nn.MaxPool1d(2), "avg_pool1d": nn.AvgPool1d(3),
}.items():
    cases[name] = record(module, (2, 4, 6))

with open(os.path.join(os.path.dirname(__file__), "modules.json"), "w") as f:
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    f.write("{\n" + ",\n".join(lines) + "\n}\n")
