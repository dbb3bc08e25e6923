"""The model's own kernels in Triton, made for short games in large batches.

``scan_forward``, ``scan_backward`` and ``convolution`` are what runs on the GPU, ``arithmetic`` and
``rows`` are what they share; ``launching`` says how large their blocks are, and ``scan_operator``
and ``convolution_operator`` start them, as operators of torch. ``step`` takes one token of many
games, and ``embedding`` adds up the gradients of tokens. Beside them stand the plain forms,
``tessera.model.scans.selective``, ``tessera.model.convolution`` and ``tessera.model.embeddings``.
None of these modules is imported before a device asks for it, because Triton may be missing.
"""
