"""The model's own kernels in Triton, made for short games in large batches.

``scan_forward``, ``scan_backward``, ``delta_forward``, ``delta_backward``, ``convolution``,
``norm`` and ``losses`` are what runs on the GPU, ``arithmetic``, ``rows`` and ``delta_chunk`` are
what they share. ``scan_launch``, ``delta_launch``, ``convolution_launch``, ``mixing_operator``,
``norm_operator`` and ``losses_operator`` start them, as operators of torch that ``operators``
makes. ``step`` takes one token of many games. ``planes`` and ``boards`` stand around cuDNN's
convolutions, and ``boards_operator`` starts both. Beside them stand the plain forms,
``tessera.model.scans.selective``, ``tessera.model.scans.delta``, ``tessera.model.convolution``,
``tessera.model.norm``, ``tessera.model.heads``, ``tessera.model.features.planes`` and
``tessera.model.board_tower``.
None of these modules is imported before a device asks for it, because Triton may be missing.
"""
