"""One token of many games in the kernels and in plain torch; also a program for the interpreter.

Triton decides when it is imported whether it compiles or interprets, so the interpreter needs a
process of its own.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tessera.model import Mamba2Mixer
from tessera.model.scans.selective import selective_scan
from tests.interpreting import quicken


def compare(device: str, dtype: torch.dtype, games: int, channels: int, states: int) -> float:
    """The largest difference between both, over outputs and states, of random arguments."""
    from tessera.model.kernels.step import conv_step, scan_step

    generator = torch.Generator().manual_seed(channels)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    width = 3
    x, z = draw(games, 2 * channels).to(dtype).chunk(2, 1)
    enters, leaves = draw(games, 2 * states + 1)[:, 1:].to(dtype).chunk(2, 1)
    # Step sizes on both sides of 20, and one that is PAD's.
    dt = (8 * draw(games, channels)).to(dtype)
    dt[0] = -1e4
    A, skip, bias = -draw(channels, states).exp(), draw(channels), draw(channels)
    window, state = draw(games, width, channels), draw(games, channels, states)
    weight, conv_bias = draw(channels, 1, width + 1), draw(channels)
    is_new = (torch.arange(games) % 3 == 1).to(device)

    known = state.masked_fill(is_new[:, None, None], 0)
    arguments = (x[:, None], dt[:, None], A, enters[:, None], leaves[:, None], skip, z[:, None])
    y, after = selective_scan(*arguments, bias, known)
    seen = torch.cat([window.masked_fill(is_new[:, None, None], 0), x[:, None].float()], 1)
    convolved = F.silu((seen * weight[:, 0].t()).sum(1) + conv_bias)

    found = scan_step(x.contiguous(), dt, A, enters, leaves, skip, z, bias, state, is_new)
    out = conv_step(x, window, weight, conv_bias, is_new)
    pairs = ((found, y[:, 0]), (state, after), (out, convolved), (window, seen[:, 1:]))
    return max(
        float(((a.float() - b.float()).abs() / (1 + b.float().abs())).max()) for a, b in pairs
    )


@torch.no_grad()
def compare_mamba2(device: str, games: int, d_model: int, headdim: int) -> float:
    """The largest difference between a Mamba-2 mixer's steps in kernels and in plain torch."""
    torch.manual_seed(d_model)
    mixer = Mamba2Mixer(d_model, d_state=5, headdim=headdim).to(device)
    for parameter in mixer.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    plain = Mamba2Mixer(d_model, d_state=5, headdim=headdim, scan="torch").to(device)
    plain.load_state_dict(mixer.state_dict())
    # Triton's interpreter runs on a CPU, where nobody else wants its steps.
    mixer.scan.steps_in_kernel = lambda x: True
    state, other = mixer.init_state(games), plain.init_state(games)
    differences = []
    for ply in range(6):
        hidden = torch.randn(games, d_model).to(device)
        is_new = (torch.arange(games) % 3 == ply % 5).to(device)
        pairs = [
            (
                mixer.step_in_place(hidden, state, is_new),
                plain.step_in_place(hidden, other, is_new),
            ),
            (state.conv, other.conv),
            (state.ssm, other.ssm),
        ]
        differences += [float(((a - b).abs() / (1 + b.abs())).max()) for a, b in pairs]
    return max(differences)


def main() -> None:
    """Print the difference of some shapes, none of them a power of two, and of two mixers."""
    torch.set_num_threads(1)
    quicken()
    for channels, states in ((40, 12), (6, 16), (70, 3)):
        print(compare("cpu", torch.float32, games=4, channels=channels, states=states))
    for d_model, headdim in ((12, 8), (5, 1)):
        print(compare_mamba2("cpu", games=4, d_model=d_model, headdim=headdim))


if __name__ == "__main__":
    main()
