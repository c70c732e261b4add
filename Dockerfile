# The service in a small image: dependencies by hash, no compiler, no root.
#
#   docker build -t reshelve --build-arg COMMIT="$(git rev-parse HEAD)" .
#   docker run --rm -p 127.0.0.1:8000:8000 -e RESHELVE_AUTH__TOKENS='{"me": "<sha256 of a token>"}' reshelve

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
COPY requirements.lock /build/requirements.lock
RUN python -m venv --without-pip /opt/venv
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --require-hashes --only-binary=:all: -r /build/requirements.lock
RUN printf '#!/bin/sh\nexec /opt/venv/bin/python -m app "$@"\n' > /opt/venv/bin/reshelve \
    && chmod 755 /opt/venv/bin/reshelve

FROM python:${PYTHON}-slim
ARG COMMIT=
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/var/lib/reshelve \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/srv/reshelve \
    RESHELVE_HOST=0.0.0.0 \
    RESHELVE_PORT=8000 \
    RESHELVE_AUTH__MODE=token \
    RESHELVE_DATABASE_URL=sqlite+aiosqlite:////var/lib/reshelve/reshelve.db
COPY --from=build /opt/venv /opt/venv
COPY alembic.ini /srv/reshelve/alembic.ini
COPY alembic /srv/reshelve/alembic
COPY app /srv/reshelve/app
RUN python -m compileall -q /srv/reshelve/app && install -d -o 10001 -g 10001 /var/lib/reshelve
RUN if [ -n "${COMMIT}" ]; then echo "${COMMIT}" > /srv/reshelve/COMMIT; fi
WORKDIR /srv/reshelve
VOLUME /var/lib/reshelve
EXPOSE 8000
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['RESHELVE_PORT'] + '/healthz', timeout=4)"]
CMD ["python", "-m", "app", "serve"]
