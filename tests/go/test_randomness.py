"""Counter-based random numbers: known words, independence of purposes, exact bounds."""

from __future__ import annotations

import torch

from tessera.go.randomness import MOVE, WINDOW, below, draw, mix, random_words


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


def test_columns_are_drawn_in_proportion_to_their_shares() -> None:
    shares = torch.tensor([0.5, 0.0, 0.25, 0.2, 0.05])
    words = random_words(4, torch.arange(100_000), 0, MOVE)
    rows, allowed = shares.expand(len(words), -1), (shares > 0).expand(len(words), -1)
    counts = draw(rows, allowed, words).bincount(minlength=5)
    expected = 100_000 * shares
    assert int(counts[1]) == 0
    # Chi-square with 3 degrees of freedom: 16.3 is passed once in a thousand times.
    assert float(((counts - expected).square() / expected.clamp(min=1)).sum()) < 16.3
    # The same shares are drawn from in the same way, whatever they are stored in.
    assert torch.equal(draw(rows.double(), allowed, words), draw(rows, allowed, words))


def test_a_column_that_is_allowed_is_drawn_even_if_all_shares_are_lost() -> None:
    words = random_words(4, torch.arange(50), 0, MOVE)
    allowed = torch.tensor([False, True, False, True]).expand(50, -1)
    for share in (0.0, 1e-30, float("nan")):
        drawn = draw(torch.full((50, 4), share) * allowed, allowed, words)
        assert set(drawn.tolist()) <= {1, 3}
