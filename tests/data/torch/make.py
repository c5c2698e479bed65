"""Makes the files beside it: for each of four networks its weights in PyTorch before and after 50 updates, the data, and
the losses. `tests/train/torch.rs` follows the same curves. Nothing here is needed to build or test kiln.

    python tests/data/torch/make.py            writes the files anew (PyTorch, numpy, safetensors)
    python tests/data/torch/make.py FILE NET   loads a weights file of kiln into NET (mlp, cnn, lstm, encoder), strictly, and
                                               prints what PyTorch computes with it for the first batch
"""

import os
import sys

import torch
from safetensors.torch import load_file, save_file
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS, BATCH, EXAMPLES = 50, 16, 64


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(8 * 2 * 2, 5)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 12, num_layers=2, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.encoder(self.embedding(x.long())).mean(1))


def mlp():
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 5))


NETS = {
    "mlp": (mlp, (12,), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4), None),
    "cnn": (Cnn, (1, 8, 8), lambda p: torch.optim.Adam(p, lr=0.003), None),
    "lstm": (Lstm, (9, 6), lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.05), 1.0),
    "encoder": (Encoder, (7,), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 1.0),
}


def data(name, shape):
    """Inputs, and classes that depend on them in a simple way."""
    if name == "encoder":
        x = torch.randint(0, 11, (EXAMPLES, *shape))
        return x.int(), (x < 5).sum(1).sub(1).clamp(0, 4)
    x = torch.randn(EXAMPLES, *shape)
    flat = x.flatten(1)
    return x, (flat @ torch.randn(flat.shape[1], 5)).argmax(1)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name, (make, shape, optimizer, clip) in NETS.items():
        torch.manual_seed(7)
        net, (x, y) = make(), data(name, shape)
        start = {k: v.clone() for k, v in net.state_dict().items()}
        rule, losses, loss_of = optimizer(net.parameters()), [], nn.CrossEntropyLoss()
        first = net.eval()(x[:BATCH]).detach().clone()
        net.train()
        for step in range(STEPS):
            at = step * BATCH % EXAMPLES
            loss = loss_of(net(x[at : at + BATCH]), y[at : at + BATCH])
            rule.zero_grad()
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            rule.step()
            losses.append(loss.item())
        save_file(start, f"{HERE}/{name}.start.safetensors")
        save_file(net.state_dict(), f"{HERE}/{name}.end.safetensors")
        facts = {"x": x, "y": y.int(), "losses": torch.tensor(losses), "first": first}
        save_file(facts, f"{HERE}/{name}.data.safetensors", {"torch": torch.__version__})
        assert losses[-1] < 0.7 * losses[0], (name, losses)
        print(name, f"loss {losses[0]:.4f} -> {losses[-1]:.4f}", sum(v.numel() for v in start.values()), "numbers")


def check(path, name):
    net = NETS[name][0]()
    print(net.load_state_dict(load_file(path), strict=True))
    x = load_file(f"{HERE}/{name}.data.safetensors")["x"][:BATCH]
    print(net.eval()(x))


if len(sys.argv) == 3:
    check(*sys.argv[1:])
else:
    main()
