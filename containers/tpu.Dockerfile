# tpubench for TPUs, by TorchTPU and libtpu. On a TPU VM:
#
#   docker build -f containers/tpu.Dockerfile -t tpubench:tpu .
#   docker run --privileged --net host -v "$PWD/bench-results:/store" tpubench:tpu \
#     run --workload llama-infer --backend tpu
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ git openssh-client \
    && rm -rf /var/lib/apt/lists/*

COPY . /src
RUN pip install --no-cache-dir '/src[tpu]' && rm -rf /src

ENV TPUBENCH_STORE=/store
VOLUME /store
ENTRYPOINT ["tpubench"]
CMD ["doctor"]
