# Contains no weights except the built-in model's; other models come from the hub or a folder in /models.
# The volume also holds prepared copies and the prefix cache, which contains text of users.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS builder
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && python -m venv /opt/lfm-serve
COPY requirements/container.txt requirements/
RUN /opt/lfm-serve/bin/pip install --require-hashes -r requirements/container.txt
COPY pyproject.toml README.md LICENSE ./
COPY kernels kernels
COPY server server
RUN /opt/lfm-serve/bin/pip install --no-deps --no-build-isolation . \
 && /opt/lfm-serve/bin/lfm-serve --help > /dev/null

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="lfm-serve" \
      org.opencontainers.image.description="OpenAI-compatible server for LFM2 models in ONNX" \
      org.opencontainers.image.licenses="Apache-2.0"
# HOME must be writable for any user, also with a read-only root and a tmpfs on /tmp.
ENV PATH=/opt/lfm-serve/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/models \
    LFM_PREPARED_FOLDER=/models/prepared \
    LFM_CACHE_FOLDER=/models/cache \
    LFM_HOST=0.0.0.0 \
    LFM_PORT=8000
# The server may run as any user (Kubernetes and OpenShift choose one), so every user may write to the volume.
RUN mkdir -m 1777 /models
COPY --from=builder /opt/lfm-serve /opt/lfm-serve
VOLUME /models
USER 10001:10001
WORKDIR /models
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; server = http.client.HTTPConnection('127.0.0.1:' + os.environ['LFM_PORT'], timeout=4); server.request('GET', '/health'); sys.exit(server.getresponse().status != 200)"]
ENTRYPOINT ["lfm-serve", "serve"]
