# One static binary in an otherwise empty image.
#
#   docker build -t paybell --build-arg VERSION=v0.1.0 .
#   docker run --rm -v paybell-data:/var/lib/paybell paybell serve
#
# There is no HEALTHCHECK: the image has no shell and no client to run one with.
# Let the orchestrator ask GET /readyz on the public listener (a gateway answers
# 200 while it can keep a callback).

FROM golang:1.26-bookworm AS build
WORKDIR /src
# Modules first: they change less often than the code.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=${VERSION}" -o /out/paybell ./cmd/paybell \
 && mkdir -p /out/data

FROM scratch
# TLS towards Redis and PostgreSQL trusts the public authorities, or those named
# in the configuration.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/paybell /usr/local/bin/paybell
COPY --from=build /src/LICENSE /src/cmd/paybell/licenses.txt /usr/share/doc/paybell/
COPY --from=build --chown=65532:65532 /out/data /var/lib/paybell
# Numbers, so that an orchestrator can see that this is not root.
USER 65532:65532
WORKDIR /var/lib/paybell
ENV PAYBELL_DATA_DIR=/var/lib/paybell
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/paybell"]
CMD ["serve"]
