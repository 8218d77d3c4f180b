# Two stages: the two static binaries, and nothing else beside them. Build it with `make image`.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# The targets that Cargo.toml names beside the binaries; the image needs none of them.
RUN mkdir -p examples tests/local && echo 'fn main() {}' | tee examples/controller.rs examples/leader_election.rs tests/main.rs tests/e2e.rs > tests/local/main.rs \
 && cargo build --locked --release --bins \
 && install -D --target-directory=/out target/release/leadergroup-operator target/release/leadergroup-elector

FROM scratch
LABEL org.opencontainers.image.title="leadergroup" \
      org.opencontainers.image.description="Exactly one pod of a Deployment leads, everybody can see which, and Services reach only it" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/leadergroup-operator /leadergroup-operator
COPY --from=build /out/leadergroup-elector /leadergroup-elector
USER 65532:65532
EXPOSE 4040 8080 8081
ENTRYPOINT ["/leadergroup-operator"]
