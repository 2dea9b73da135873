# The longer commands for working on this package; CONTRIBUTING.md says what each needs. "make" alone lists them.

GO        ?= go
FUZZTIME  ?= 30s
SOAKTIME  ?= 2m
BENCHTIME ?= 100ms
PLATFORMS = linux/amd64 linux/arm64 linux/386 darwin/amd64 darwin/arm64 freebsd/amd64 freebsd/arm64 netbsd/amd64 netbsd/arm64 \
            openbsd/amd64 openbsd/arm64 dragonfly/amd64
FIGURES   = BlockedHandlers SleepingHandlers DeafClient SlowRequest Churn IdleConnection Publish Shutdown Reconnect

.PHONY: help run test abuse vet lint fuzz deflate upgrade prom cover figures microbench apidiff interop cluster cluster-soak cluster-bench soak bench bench-all bench-wss bench-deflate bench-client chart

help:
	@echo "Needs Go alone: go run ./examples/server, go test ./... (about 3 minutes). The rest:"
	@echo "make run         the chat demo: a server and its page for browsers"
	@echo "make test        all tests, with the race detector (needs a C compiler), and vet for every platform: about 5 minutes"
	@echo "make vet         vet for every platform"
	@echo "make abuse       the attacks of SECURITY.md at their real times: about 5 minutes"
	@echo "make lint        gofmt, staticcheck"
	@echo "make fuzz        each fuzz target for FUZZTIME ($(FUZZTIME))"
	@echo "make cover       coverage of the package by all suites"
	@echo "make figures     the figures of the README"
	@echo "make microbench  each part of the package by itself, times and allocations"
	@echo "make apidiff     the exported API against that of the replaced package"
	@echo "make deflate     the codec of the module deflate: vet, and its tests with the race detector"
	@echo "make upgrade     the example that replaces itself, 20 times under load: vet, and its tests, 10 seconds"
	@echo "make prom        the collector for Prometheus in the module prom, and its dashboard"
	@echo "make interop     tests with other libraries, Node, Python, Chromium and proxies; installs what is missing"
	@echo "make cluster     tests of the module cluster, with processes that are killed and networks that are cut: 2 minutes"
	@echo "make cluster-soak  traffic over nodes in trouble, for SOAKTIME with embedded brokers and again with a NATS server"
	@echo "make cluster-bench  the figures of CLUSTER.md: about 3 minutes"
	@echo "make soak        mixed and hostile traffic over a bad network for SOAKTIME ($(SOAKTIME))"
	@echo "make bench       echo servers side by side, under 10 minutes; bench-all: all of it; bench-wss: over TLS"
	@echo "make bench-deflate  the same with permessage-deflate, about 10 minutes; bench-client: clients; make chart: SVG of the others"

run:
	$(GO) run ./examples/server

test: vet
	$(GO) test -race -shuffle=on ./...

abuse:
	$(GO) test -count=1 -v ./tests/abuse -abuse.real

vet:
	@for platform in $(PLATFORMS); do \
		echo "vet $$platform"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 $(GO) vet ./... || exit 1; \
	done
	@echo "build windows/amd64: the client; the server's Start says that it is unsupported"
	@GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) vet ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) run honnef.co/go/tools/cmd/staticcheck@latest ./...

fuzz:
	@for folder in . deflate; do \
		for target in $$(cd $$folder && $(GO) test -list '^Fuzz' . | grep '^Fuzz'); do \
			(cd $$folder && $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x .) || exit 1; \
		done; \
	done

cover:
	$(GO) test -coverpkg=. -coverprofile=coverage.out . ./tests/rfc6455 ./tests/server ./tests/client
	$(GO) tool cover -func=coverage.out | tail -1

figures:
	@for figure in $(FIGURES); do $(GO) test -run '^$$' -bench "^Benchmark$$figure\$$" -benchtime 1x ./tests/figures | grep ^Benchmark; done

microbench:
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) .

apidiff:
	sh testdata/apidiff.sh

deflate:
	cd deflate && $(GO) vet ./... && $(GO) test -race -shuffle=on ./...

upgrade:
	cd examples/upgrade && $(GO) vet ./... && $(GO) test -count=1 ./...

prom:
	cd prom && $(GO) vet ./... && $(GO) test -race -shuffle=on ./...

interop:
	interop/run.sh

cluster:
	cd cluster && $(GO) vet ./... && $(GO) test -race -count=1 ./...
	cd cluster/benchmarks && $(GO) vet ./...
	cd examples/cluster && $(GO) vet ./... && $(GO) test -count=1 ./...

cluster-soak:
	cd cluster && $(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' . -soak $(SOAKTIME)

cluster-bench:
	cd cluster && $(GO) test -run '^$$' -bench . .
	cd cluster/benchmarks && $(GO) run .

soak:
	$(GO) run ./soak -for $(SOAKTIME)

bench bench-all bench-wss bench-deflate bench-client chart:
	$(MAKE) -C benchmarks $@
