"""Makes the files beside it with PyTorch: weights before and after 50 updates, the data, and the losses, of networks that
`tests/train/torch.rs` (the library) and `tests/train/torch_runs.rs` (the command, from the TOML files in `runs`) train
too. Nothing here is needed to build or test kiln.

    python tests/data/torch/make.py            writes the files anew (PyTorch, numpy, safetensors)
    python tests/data/torch/make.py NET        writes those of one network of RUNS anew
    python tests/data/torch/make.py FILE NET   loads a weights file of kiln into a network of RUNS (mlp, cnn, lstm, encoder),
                                               strictly, computes its outputs for all examples and writes them beside FILE,
                                               to FILE.outputs.npy
"""

import os
import sys

import numpy as np
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


class LstmRun(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 10, batch_first=True)
        self.head = nn.Linear(10, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class EncoderRun(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(13, 12)
        layer = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(12), enable_nested_tensor=False)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        return self.head(self.encoder(self.embedding(x)).mean(1))


def mlp_run():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))


def cnn_run():
    return nn.Sequential(
        # A bias before batch norm has no gradient but rounding, which Adam would make steps of.
        nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.GELU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4),
    )


# Of 75 examples in batches of 16 the last has 11: ten epochs are fifty updates.
RUN_EXAMPLES, EPOCHS = 75, 10
RUNS = {
    "mlp": (mlp_run, (6,), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3), None),
    "cnn": (cnn_run, (2, 8, 8), lambda p: torch.optim.Adam(p, lr=0.01), None),
    "lstm": (LstmRun, (7, 4), lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.85, 0.98)), 0.5),
    "encoder": (EncoderRun, (6,), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), 1.0),
}


# Seeds with which nothing hangs on rounding, where 11 is not one.
SEEDS = {"cnn": 21}


def run_data(name, shape):
    n = RUN_EXAMPLES
    if name == "encoder":
        x = torch.randint(0, 13, (n, *shape))
        return x, (x < 6).sum(1).sub(1).clamp(0, 3)
    x = torch.randn(n, *shape)
    if name == "lstm":
        return x, torch.stack([x[:, -1].sum(1), x[:, -2:].mean((1, 2))], 1).tanh()
    return x, (x.flatten(1) @ torch.randn(x[0].numel(), 4)).argmax(1)


def write_data(folder, x, y, name):
    """Columns of a CSV file for the fully connected network, arrays for the others."""
    if name != "mlp":
        np.save(f"{folder}/{name}.x.npy", x.numpy())
        np.save(f"{folder}/{name}.y.npy", y.numpy())
        return
    with open(f"{folder}/mlp.csv", "w") as out:
        out.write(",".join(f"x{i}" for i in range(x.shape[1])) + ",class\n")
        for row, label in zip(x, y):
            # Nine digits are enough for any float32.
            out.write(",".join(f"{v:.9g}" for v in row.tolist()) + f",{label.item()}\n")


def run_pairs(name):
    """The examples of a run, as its files have them."""
    folder = f"{HERE}/runs"
    if name != "mlp":
        return torch.from_numpy(np.load(f"{folder}/{name}.x.npy")), torch.from_numpy(np.load(f"{folder}/{name}.y.npy"))
    table = np.loadtxt(f"{folder}/mlp.csv", delimiter=",", skiprows=1, dtype=np.float32)
    return torch.from_numpy(table[:, :-1].copy()), torch.from_numpy(table[:, -1].astype(np.int64))


class Gaps:
    """By how much the largest of each pooling window exceeds the next, at least. Within rounding, which of them is taken
    would be chance, and a run that takes another one is as right."""

    def __init__(self):
        self.smallest = float("inf")

    def __call__(self, _, inputs):
        windows = nn.functional.unfold(inputs[0].flatten(0, 1).unsqueeze(1), 2, stride=2)
        first, second = windows.topk(2, dim=1).values.unbind(1)
        self.smallest = min(self.smallest, (first - second)[first > 0].min().item())


def runs(names):
    folder = f"{HERE}/runs"
    os.makedirs(folder, exist_ok=True)
    for name in names:
        make, shape, optimizer, clip = RUNS[name]
        torch.manual_seed(SEEDS.get(name, 11))
        net, gaps = make(), Gaps()
        for pool in (m for m in net.modules() if isinstance(m, nn.MaxPool2d)):
            pool.register_forward_pre_hook(gaps)
        write_data(folder, *run_data(name, shape), name)
        x, y = run_pairs(name)
        save_file({k: v.clone() for k, v in net.state_dict().items()}, f"{folder}/{name}.start.safetensors")
        rule, losses = optimizer(net.parameters()), []
        loss_of = nn.MSELoss() if name == "lstm" else nn.CrossEntropyLoss()
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=BATCH)
        # The mean of the weights after each of the last 25 updates, and batch norm's statistics for it.
        averaged = torch.optim.swa_utils.AveragedModel(net) if name == "cnn" else None
        for _ in range(EPOCHS):
            for inputs, targets in loader:
                loss = loss_of(net(inputs), targets)
                rule.zero_grad()
                loss.backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(net.parameters(), clip)
                rule.step()
                losses.append(loss.item())
                if averaged is not None and len(losses) > 25:
                    averaged.update_parameters(net)
        assert len(losses) == 50 and losses[-1] < 0.7 * losses[0], (name, losses)
        assert gaps.smallest > 1e-5, (name, gaps.smallest)
        end = {k: v.contiguous() for k, v in net.state_dict().items()}
        save_file(end, f"{folder}/{name}.end.safetensors", {"torch": torch.__version__})
        with open(f"{folder}/{name}.losses.txt", "w") as out:
            out.write("".join(f"{loss:.9g}\n" for loss in losses))
        if averaged is not None:
            torch.optim.swa_utils.update_bn(loader, averaged)
            save_file(averaged.module.state_dict(), f"{folder}/{name}.swa.safetensors")
        print("run of", name, f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")


def check(path, name):
    net = RUNS[name][0]()
    print(net.load_state_dict(load_file(path), strict=True))
    with torch.no_grad():
        outputs = net.eval()(run_pairs(name)[0])
    np.save(f"{path}.outputs.npy", outputs.numpy())
    print("outputs", tuple(outputs.shape), "in", f"{path}.outputs.npy")


if len(sys.argv) == 3:
    check(*sys.argv[1:])
elif len(sys.argv) == 2:
    runs(sys.argv[1:])
else:
    main()
    runs(RUNS)
