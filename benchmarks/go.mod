module github.com/wsloop/websocket/benchmarks

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/gobwas/ws v1.5.0
	github.com/gorilla/websocket v1.5.3
	github.com/lesismal/llib v1.2.2
	github.com/lesismal/nbio v1.6.9
	github.com/lxzan/gws v1.8.9
	github.com/shuLhan/share v0.41.3
	github.com/stretchr/testify v1.12.1
	github.com/wsloop/websocket v0.0.0
	github.com/wsloop/websocket/deflate v0.0.0
	golang.org/x/sys v0.47.0
)

require (
	github.com/dolthub/maphash v0.1.0 // indirect
	github.com/gobwas/httphead v0.1.0 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.0.0-20220829220503-c86fa9a7ed90 // indirect
	golang.org/x/net v0.0.0-20220907135653-1e95f45603a7 // indirect
)

replace (
	github.com/wsloop/websocket => ..
	github.com/wsloop/websocket/deflate => ../deflate
)
