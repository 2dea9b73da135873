module example.com/program

go 1.22.0

require github.com/shuLhan/share v0.41.3

require (
	golang.org/x/net v0.0.0-20220907135653-1e95f45603a7 // indirect
	golang.org/x/sys v0.0.0-20220908164124-27713097b956 // indirect
)
