"""Counter-based random numbers: known words, independence of purposes, exact bounds."""

from __future__ import annotations

import torch

from tessera.go.randomness import MOVE, WINDOW, below, mix, random_words


def test_mix_gives_the_published_words_of_splitmix64() -> None:
    # The first outputs of the reference implementation with the seed 1234567.
    golden = -0x61C8864680B583EB
    states = torch.tensor([1234567]) + torch.arange(1, 4) * golden
    words = [int(word) % 2**64 for word in mix(states)]
    assert words == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_words_differ_by_seed_game_ply_and_purpose() -> None:
    numbers = torch.arange(1000)
    words = [
        random_words(seed, numbers, ply, purpose)
        for seed in (0, 1, -5)
        for ply in (0, 1, 700)
        for purpose in (MOVE, WINDOW)
    ]
    assert torch.cat(words).unique().numel() == len(words) * 1000
    by_tensor = random_words(1, numbers, torch.full((1000,), 700), MOVE)
    assert torch.equal(by_tensor, random_words(1, numbers, 700, MOVE))


def test_below_is_the_high_word_of_the_unsigned_product() -> None:
    words = torch.tensor([0, 1, -1, 2**62, -(2**63), 123456789123456789])
    for bound in (0, 1, 2, 361, 757 * 2**20, 2**31 - 1):
        expected = [(int(word) % 2**64) * bound >> 64 for word in words]
        assert below(words, torch.full_like(words, bound)).tolist() == expected


def test_below_is_uniform() -> None:
    words = random_words(3, torch.arange(70_000), 0, MOVE)
    counts = below(words, torch.full_like(words, 7)).bincount(minlength=7)
    assert counts.numel() == 7
    # Chi-square with 6 degrees of freedom: 22.5 is passed once in a thousand times.
    assert float((counts - 10_000).double().square().sum() / 10_000) < 22.5
