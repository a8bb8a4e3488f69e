# SPDX-License-Identifier: Apache-2.0
# Both targets only copy a static binary that `make build` made: docker build --target proxy .
# `make images` makes the same images without Docker.

FROM scratch AS operator
COPY bin/heddle-operator /heddle-operator
USER 1337:1337
ENTRYPOINT ["/heddle-operator"]

FROM scratch AS proxy
COPY bin/heddle-proxy /heddle-proxy
USER 1337:1337
ENTRYPOINT ["/heddle-proxy"]
