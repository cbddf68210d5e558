# One image for each program: docker build --target server|agent|cli .
# Each runs its program as process 1 under a user that is nobody else, and ends on SIGTERM.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p hoist-server -p hoist-agent -p hoist \
    && mkdir /out \
    && cp target/release/hoist-server target/release/hoist-agent target/release/hoist /out/

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin hoist \
    && install -d -o hoist -g hoist -m 0700 /data
USER hoist
WORKDIR /data

FROM base AS agent
COPY --from=build /out/hoist-agent /usr/local/bin/hoist-agent
ENTRYPOINT ["/usr/local/bin/hoist-agent"]

FROM base AS cli
COPY --from=build /out/hoist /usr/local/bin/hoist
ENTRYPOINT ["/usr/local/bin/hoist"]

# Last, so that it is what a build without --target makes.
FROM base AS server
COPY --from=build /out/hoist-server /usr/local/bin/hoist-server
ENV SERVER_HOST=0.0.0.0 SERVER_PORT=8080 DATA_DIR=/data
EXPOSE 8080
VOLUME /data
# Bash's own TCP: the image has no HTTP client.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$SERVER_PORT && printf 'GET /ready HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["/usr/local/bin/hoist-server"]
