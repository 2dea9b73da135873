module github.com/wsloop/websocket/examples/upgrade

go 1.25.0

require (
	github.com/cloudflare/tableflip v1.2.3
	github.com/stretchr/testify v1.12.1
	github.com/wsloop/websocket v0.0.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/wsloop/websocket => ../..
