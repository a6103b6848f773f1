# tpubench for NVIDIA GPUs. torch's wheels bring CUDA's libraries, the host its driver
# (nvidia-container-toolkit):
#
#   docker build -f containers/cuda.Dockerfile -t tpubench:cuda .
#   docker run --gpus all -v "$PWD/bench-results:/store" tpubench:cuda run --workload llama-infer
FROM python:3.11-slim-bookworm

# What torch.compile compiles its launchers with; git, for the commit of a working directory.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ git openssh-client \
    && rm -rf /var/lib/apt/lists/*

COPY . /src
RUN pip install --no-cache-dir '/src[cuda]' && rm -rf /src

ENV TPUBENCH_STORE=/store
VOLUME /store
ENTRYPOINT ["tpubench"]
CMD ["doctor"]
