# The image is one static program and nothing else. `hack/image` builds both; by hand it is
# cargo build --release --locked --target x86_64-unknown-linux-musl && docker build .
FROM scratch

ARG VERSION=dev
LABEL org.opencontainers.image.title="prepull" \
      org.opencontainers.image.description="Blocks helm install until every eligible node holds the release's container images" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"

ARG BINARY=target/x86_64-unknown-linux-musl/release/prepull
COPY ${BINARY} /bin/prepull

# A number, so that kubelet can tell that it is not root.
USER 65532:65532
ENTRYPOINT ["/bin/prepull"]
