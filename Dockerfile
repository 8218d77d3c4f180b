# Two stages: static programs, and nothing else beside them. Build it with `make image`.
#
# Tests put a folder of prebuilt programs in the place of the stage `build` (tests/tools/static).
FROM docker.io/library/rust:1.95-alpine@sha256:606fd313a0f49743ee2a7bd49a0914bab7deedb12791f3a846a34a4711db7ed2 AS build
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# The targets that Cargo.toml names beside the programs; the image needs none of them.
RUN mkdir -p examples tests/local tests/app \
 && echo 'fn main() {}' | tee examples/controller.rs examples/leader_election.rs tests/main.rs tests/e2e.rs tests/app/main.rs > tests/local/main.rs \
 && cargo build --locked --release --bins \
 && mkdir /out \
 && find target/release -maxdepth 1 -type f -name 'leadergroup-*' ! -name '*.d' -exec cp {} /out/ \;

FROM scratch
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="leadergroup" \
      org.opencontainers.image.description="Exactly one pod of a Deployment leads, everybody can see which, and Services reach only it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/leadergroup/leadergroup" \
      org.opencontainers.image.documentation="https://github.com/leadergroup/leadergroup/blob/main/README.md" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# Every program that Cargo.toml names as [[bin]].
COPY --from=build /out/ /
USER 65532:65532
EXPOSE 4040 8080 8081
ENTRYPOINT ["/leadergroup-operator"]
