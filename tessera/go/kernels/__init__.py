"""The engine in Triton, one warp a game, bit-identical to the plain torch code beside it.

``board``, ``superko`` and ``players`` are what the kernels are made of; ``playout`` plays whole
games, ``playouts`` given ones to their ends, ``ply`` one ply, ``census`` counts positions,
``settled`` finds settled points; ``games`` and ``plies`` launch the first three. Nothing here is
imported before a device asks for it, because Triton may be missing.
"""
