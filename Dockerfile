# two-tier as one static binary on an empty file system:   docker build --tag two-tier:0.1.0 .
#
#   docker run --read-only --cap-drop ALL --memory 128m --publish 127.0.0.1:8080:8080 --volume two-tier:/data two-tier:0.1.0
#
# The base image's tag is not pinned by digest: its security updates are wanted, and nothing of it but glibc is shipped.
FROM docker.io/library/rust:1.95.0-slim-bookworm AS builder
WORKDIR /build

# A static program with glibc: its allocator serves many threads better than musl's, and since 2.34 it brings its own
# resolver, so that names are found through DNS on an empty root. Its relocations are packed: 0.16 MB less.
ENV RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
# The directory that the volume starts as, and the order of look-ups: /etc/hosts (localhost, links of a container
# engine) goes before DNS only where this file says so.
RUN mkdir -p root/etc root/data && echo "hosts: files dns" >root/etc/nsswitch.conf

# The dependencies, in a layer of their own: it is kept until Cargo.lock changes. --target, though it is the machine's
# own, keeps the static flag from procedural macros, which are libraries that the compiler loads.
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir src && echo "fn main() {}" >src/main.rs \
    && cargo build --locked --release --target "$(uname -m)-unknown-linux-gnu" \
    && rm -r src

COPY src src
# Shown by --version.
ARG REVISION=unknown
# Newer than what was built of the stand-in above, whatever time the copy kept.
RUN touch src/main.rs src/lib.rs \
    && TWO_TIER_COMMIT=$REVISION cargo build --locked --release --target "$(uname -m)-unknown-linux-gnu" \
    && cp "target/$(uname -m)-unknown-linux-gnu/release/two-tier" root/

# No CA certificates: those that the MongoDB driver trusts are compiled in (webpki-roots).
FROM scratch
COPY --from=builder --chown=65532:65532 /build/root/data /data
COPY --from=builder /build/root/etc /etc
COPY --from=builder /build/root/two-tier /two-tier

# Also what a directory under --read-only needs to be written to, without a --volume.
VOLUME /data
# In a container the other addresses are the container's own, and nothing is reached unless it is published.
ENV HOST=:: \
    DATA_FILE=/data/two-tier.redb \
    # No cache of free blocks for each of hundreds of threads: 14 instead of 20 MB under 200 clients, and no slower.
    GLIBC_TUNABLES=glibc.malloc.tcache_count=0
# http, http-metrics
EXPOSE 8080 9090
# Nobody: no such user exists anywhere. k8s.yaml says the same.
USER 65532:65532
ENTRYPOINT ["/two-tier"]
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["/two-tier", "healthcheck"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="two-tier" \
      org.opencontainers.image.description="JSON documents over HTTP, MongoDB or an embedded store behind it" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
