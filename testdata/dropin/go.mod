module dropin

go 1.25.0

require github.com/shuLhan/share/lib/websocket v0.41.3

require golang.org/x/sys v0.47.0 // indirect

replace github.com/shuLhan/share/lib/websocket => ../..
