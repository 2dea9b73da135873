module github.com/wsloop/websocket/examples/autocert

go 1.25.0

require (
	github.com/stretchr/testify v1.12.1
	github.com/wsloop/websocket v0.0.0
	golang.org/x/crypto v0.48.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.49.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.34.0 // indirect
)

replace github.com/wsloop/websocket => ../..
