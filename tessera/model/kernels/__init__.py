"""The model's own kernels in Triton, made for short games in large batches.

``scan_forward``, ``scan_backward`` and ``convolution`` are what runs on the GPU, ``arithmetic`` what
they share; ``launching`` says how they are started, and ``scan_operator`` and
``convolution_operator`` start them, as operators of torch. Beside them stand the plain forms,
``tessera.model.scan`` and ``tessera.model.convolution``. Nothing here is imported before a device
asks for it, because Triton may be missing.
"""
