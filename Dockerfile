# Tessera on a CUDA machine. "devel" because mamba-ssm and causal-conv1d may have to be compiled.
FROM pytorch/pytorch:2.9.1-cuda12.8-cudnn9-devel

# How many files nvcc compiles at once; each wants about 3 GB of memory.
ARG MAX_JOBS=4
ENV MAX_JOBS=${MAX_JOBS} \
    PIP_BREAK_SYSTEM_PACKAGES=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

WORKDIR /app

# The image's own torch stays: the kernels are compiled against it.
RUN python -c "import torch; print('torch==' + torch.__version__.split('+')[0])" > /constraints.txt \
    && pip install --no-cache-dir "setuptools>=77" "wheel>=0.45" "ninja>=1.11" "packaging>=24"
ENV PIP_CONSTRAINT=/constraints.txt

# Only what the requirements depend on, so that a change of the code compiles nothing again.
COPY pyproject.toml README.md ./
RUN mkdir tessera && touch tessera/__init__.py \
    && pip install --no-cache-dir --no-build-isolation -e '.[cuda]' \
    && python -c "import torch, selective_scan_cuda, causal_conv1d_cuda"

COPY tessera tessera
COPY configs configs

ENTRYPOINT ["tessera"]
CMD ["--help"]
