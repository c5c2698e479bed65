"""The preset chars-gpt in PyTorch: the same model, text, windows, optimizer and schedule as
`kiln train chars-gpt --set data.test=0 --set data.validation=0.1 --set epochs=N`, to compare losses and times.

    python benches/chars_gpt.py --epochs 20 --save-init init.safetensors
    kiln train chars-gpt --set data.test=0 --set data.validation=0.1 --set epochs=20 --set 'train.init="init.safetensors"'

Prints after each epoch the loss on the last tenth of the King James text, in bits per character. The second command
starts from the same weights.
"""
import argparse
import gzip
import math
import time

import torch
from torch import nn
from torch.nn import functional as F

CONTEXT, BATCH, LAYERS, HEADS, WIDTH = 128, 16, 4, 4, 128


class Block(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.c_fc, self.out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = (y.view(b, t, HEADS, w // HEADS).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(w, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, w)
        x = x + self.drop(self.c_proj(y))
        return x + self.drop(self.out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")))


class Gpt(nn.Module):
    def __init__(self, vocab, dropout, init):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.h = nn.ModuleList(Block(dropout) for _ in range(LAYERS))
        self.ln_f, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocab, bias=False)
        self.drop = nn.Dropout(dropout)
        if init == "torch":  # what nn.Linear and nn.Embedding draw by themselves
            return
        for name, p in self.named_parameters():
            if name.endswith("weight") and p.dim() == 2:
                into_stream = name.endswith("c_proj.weight") or name.endswith("out.weight")
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * LAYERS) if into_stream else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens):
        x = self.drop(self.wte(tokens) + self.wpe.weight[: tokens.shape[1]])
        for block in self.h:
            x = block(x)
        return self.head(self.ln_f(x))


def save(model, path):
    from safetensors.torch import save_file

    modules = {".c_attn": ".attn.c_attn", ".c_proj": ".attn.c_proj", ".c_fc": ".mlp.c_fc", ".out": ".mlp.c_proj"}
    tensors = {}
    for name, p in model.named_parameters():
        for old, new in modules.items():
            if old in name:
                name = name.replace(old, new)
                break
        tensors[name] = p.detach()
    save_file(tensors, path)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--epochs", type=int, default=2)
    args.add_argument("--stop", type=int, default=10**9, help="stop after so many epochs")
    args.add_argument("--dropout", type=float, default=0.0)
    args.add_argument("--lr", type=float, default=2e-3)
    args.add_argument("--decay", type=float, default=0.1)
    args.add_argument("--beta2", type=float, default=0.99)
    args.add_argument("--init", default="gpt2", choices=["gpt2", "torch"])
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--order", type=int, help="seed of the order of batches alone: --seed then says the initial weights")
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--save-init", metavar="FILE", help="write the weights at the start, named as kiln names them")
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    text = gzip.open("data/kjv-subset.txt.gz", "rt", encoding="utf-8").read()
    chars = sorted(set(text))
    index = {c: i for i, c in enumerate(chars)}
    tokens = torch.tensor([index[c] for c in text])
    cut = len(tokens) - round(len(tokens) * 0.1)
    train, held = tokens[:cut], tokens[cut:]

    model = Gpt(len(chars), args.dropout, args.init)
    if args.save_init:
        save(model, args.save_init)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, args.beta2), weight_decay=args.decay)
    windows = (len(train) - 1) // CONTEXT
    updates = args.epochs * math.ceil(windows / BATCH)
    rise = round(0.05 * updates)

    def rate(step):
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - rise) / (updates - rise)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    starts = torch.arange((len(held) - 1) // CONTEXT) * CONTEXT
    window = torch.arange(CONTEXT)
    if args.order is not None:
        torch.manual_seed(args.order)
    begin = time.time()
    for epoch in range(min(args.epochs, args.stop)):
        model.train()
        offset = int(torch.randint(CONTEXT, ()))
        at = (torch.randperm(windows) * CONTEXT + offset).clamp(max=len(train) - 1 - CONTEXT)
        total = 0.0
        for batch in at.split(BATCH):
            x, y = train[batch[:, None] + window], train[batch[:, None] + window + 1]
            loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        model.eval()
        with torch.no_grad():
            losses = [
                F.cross_entropy(model(held[b[:, None] + window]).flatten(0, 1), held[b[:, None] + window + 1].flatten(), reduction="sum")
                for b in starts.split(64)
            ]
        bits = sum(losses).item() / (len(starts) * CONTEXT) / math.log(2)
        seconds = time.time() - begin
        print(f"epoch {epoch + 1}/{args.epochs}  train {total / windows / math.log(2):.3f}  held out {bits:.3f} bits/char  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
