"""A Conv-TasNet small enough for tests that takes a low hum from a high one: trained in seconds, saved as a state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from annotators.protocols_speech import FloatArray

RATE_HZ = 8000
LAYERS = 3


def voices(n: int, seed: int) -> FloatArray:
    """Return two made voices [2, n]: harmonics of a low and of a high pitch, each rising and falling."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / RATE_HZ
    out = []
    for low, high in ((90, 130), (700, 900)):
        pitch = rng.uniform(low, high)
        tone = sum(np.sin(2 * np.pi * k * pitch * t + rng.uniform(0, 6)) / k for k in (1, 2, 3))
        out.append(0.2 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(1, 4) * t)))
    return np.asarray(out, np.float32)


def write_separator(file: Path, steps: int = 120) -> Path:
    """Train a network on made voices and save its state; needs torchaudio."""
    import torch
    from torchaudio.models import ConvTasNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ConvTasNet(
            enc_num_feats=32, msk_num_feats=16, msk_num_hidden_feats=32, msk_num_layers=LAYERS, msk_num_stacks=2,
            msk_activate="relu",
        )  # fmt: skip
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
        for step in range(steps):
            parts_BSN = torch.from_numpy(np.stack([voices(2000, 100 * step + k) for k in range(4)]))
            loss = (network(parts_BSN.sum(1, keepdim=True)) - parts_BSN).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(network.state_dict(), file)
    return file
